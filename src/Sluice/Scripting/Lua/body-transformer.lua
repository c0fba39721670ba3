-- The Lua of body-transformer: reads what a body holds, and renders the template with it
local unit, ctx, side, format, body, content_type, xml = ...
local core, cjson = require("apisix.core"), require("cjson.safe")
local find, sub, gsub, match, concat = string.find, string.sub, string.gsub, string.match, table.concat
local conf = unit.conf[side]

-- ------------------------------------------------------------------------------------------------------------------- bodies

-- An element with text beside attributes or children has its text at 1
local function lift(node)
  if type(node) ~= "table" then
    return node
  end
  for key, value in pairs(node) do
    node[key] = lift(value)
  end
  local text = node["#text"]
  if text then
    node["#text"], node[1] = nil, text
  end
  return node
end

local Multipart = {}
Multipart.__index = Multipart

local function read_multipart(text, kind)
  local boundary = kind and (match(kind, 'boundary="([^"]+)"') or match(kind, "boundary=([^;%s]+)"))
  local read = setmetatable({ boundary = boundary, parts = {} }, Multipart)
  local mark = boundary and "\n--" .. boundary
  text = "\n" .. (text or "")
  local _, at = find(text, mark or "\n--", 1, true)
  while mark and at and sub(text, at + 1, at + 2) ~= "--" do
    local _, line_end = find(text, "\n", at + 1, true)
    if not line_end then
      break
    end
    local next_mark, next_at = find(text, mark, line_end, true)
    -- from the line end on, which closes an empty head
    local part = gsub(sub(text, line_end, (next_mark or #text + 1) - 1), "\r$", "")
    local head_end, value_start = find(part, "\n\r?\n")
    if head_end then
      local headers = {}
      for line in string.gmatch(sub(part, 1, head_end), "[^\r\n]+") do
        headers[#headers + 1] = line
      end
      local head = concat(headers, "\n")
      local name = match(head, '[;%s]name="([^"]*)"') or match(head, "[;%s]name=([^;%s]+)")
      read.parts[#read.parts + 1] = { name = name, headers = headers, value = sub(part, value_start + 1) }
    end
    at = next_at
  end
  return read
end

function Multipart:get(name)
  for _, part in ipairs(self.parts) do
    if part.name == name then
      return part
    end
  end
end

function Multipart:get_all()
  local all = {}
  for _, part in ipairs(self.parts) do
    all[part.name or ""] = part.value
  end
  return all
end

function Multipart:get_all_as_arrays()
  local all = {}
  for _, part in ipairs(self.parts) do
    local values = all[part.name or ""] or {}
    values[#values + 1] = part.value
    all[part.name or ""] = values
  end
  return all
end

function Multipart:get_all_with_arrays()
  local all = self:get_all_as_arrays()
  for name, values in pairs(all) do
    all[name] = values[2] and values or values[1]
  end
  return all
end

function Multipart:delete(name)
  for i = #self.parts, 1, -1 do
    if self.parts[i].name == name then
      table.remove(self.parts, i)
    end
  end
end

function Multipart:set_simple(name, value, filename, kind)
  local headers = { 'Content-Disposition: form-data; name="' .. name .. '"' .. (filename and '; filename="' .. filename .. '"' or "") }
  headers[2] = kind and "Content-Type: " .. kind or nil
  local part = self:get(name)
  if not part then
    part = { name = name }
    self.parts[#self.parts + 1] = part
  end
  part.headers, part.value = headers, tostring(value)
end

function Multipart:tostring()
  local out = {}
  for _, part in ipairs(self.parts) do
    out[#out + 1] = "--" .. self.boundary .. "\r\n" .. concat(part.headers, "\r\n") .. "\r\n\r\n" .. part.value .. "\r\n"
  end
  return self.boundary and concat(out) .. "--" .. self.boundary .. "--\r\n" or ""
end

local multipart
local readers = {
  xml = function() return lift(cjson.decode(xml)) end,
  json = function()
    local read, err = cjson.decode(body or "")
    if err or type(read) ~= "table" then
      return nil, err or "neither an object nor an array"
    end
    return read
  end,
  encoded = function() return ngx.decode_args(body or "") end,
  args = function() return ngx.req.get_uri_args() end,
  multipart = function()
    multipart = read_multipart(body, content_type)
    return multipart:get_all_with_arrays()
  end,
}

-- ---------------------------------------------------------------------------------------------------------------- templates

local closing = { ["{"] = "}}", ["*"] = "*}", ["%"] = "%}", ["#"] = "#}", ["-"] = "-}", ["("] = ")}", ["["] = "]}" }

local function compile(text)
  local made = { "local context, blocks, raw_, escape_, concat_, out_ = ...\n" }
  local start, from, block = 1, 1, nil
  local function add(code) made[#made + 1] = code end
  local function literal(first, last)
    if last >= first then
      add("out_[#out_ + 1] = " .. string.format("%q", sub(text, first, last)) .. "\n")
    end
  end
  while true do
    local open = find(text, "{", from, true)
    if not open then
      break
    end
    local kind = sub(text, open + 1, open + 1)
    local first, last
    if closing[kind] then
      first, last = find(text, closing[kind], open + 2, true)
    end
    if not first then
      from = open + 1
    elseif open > start and sub(text, open - 1, open - 1) == "\\" then
      literal(start, open - 2)
      start, from = open, open + 2
    else
      literal(start, open - 1)
      local inner = sub(text, open + 2, first - 1)
      if kind == "{" then
        add("out_[#out_ + 1] = escape_(" .. inner .. "\n)\n")
      elseif kind == "*" then
        add("out_[#out_ + 1] = raw_(" .. inner .. "\n)\n")
      elseif kind == "%" then
        add(inner .. "\n")
      elseif kind == "-" and (inner == "raw" or inner == "verbatim") then
        local ends, behind = find(text, "{-" .. inner .. "-}", last + 1, true)
        if not ends then
          error("{-" .. inner .. "-} has no end", 0)
        end
        literal(last + 1, ends - 1)
        last = behind
      elseif kind == "-" and block == inner then
        add("blocks[" .. string.format("%q", inner) .. "] = concat_(out_) end\n")
        block = nil
      elseif kind == "-" then
        add("do local out_ = {}\n")
        block = inner
      elseif kind ~= "#" then
        error("a template includes no other: {" .. kind .. inner .. closing[kind], 0)
      end
      start = last + 1
      if (kind == "%" or kind == "#" or kind == "-") and sub(text, start, start) == "\n" then
        start = start + 1
      end
      from = start
    end
  end
  literal(start, #text)
  add("return concat_(out_)")
  local chunk, err = loadstring(concat(made), "=template")
  return chunk or error(err, 0)
end

local function raw(value)
  if type(value) == "function" then
    value = value()
  end
  return (value == nil or value == cjson.null) and "" or tostring(value)
end

local entities = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;", ["'"] = "&#39;", ["/"] = "&#47;" }
local xml_entities = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;", ["'"] = "&apos;" }

local function escape(value)
  return (gsub(raw(value), "[&<>\"'/]", entities))
end

-- ------------------------------------------------------------------------------------------------------------------- render

local context = {}
if format and format ~= "plain" then
  local err
  context, err = readers[format]()
  if not context then
    return nil, "400", side .. " body decode: " .. tostring(err)
  end
end

local text = conf.template
if conf.template_is_base64 or (format and format ~= "encoded" and format ~= "args") then
  text = ngx.decode_base64(text) or text
end
unit.templates = unit.templates or {}
local render = unit.templates[side .. text]
if not render then
  local ok, compiled = pcall(compile, text)
  if not ok then
    return nil, "503", side .. " template compile: " .. tostring(compiled)
  end
  render = compiled
  unit.templates[side .. text] = render
end

-- what a body calls so cannot hide what templates find under these names
local helpers = {
  _ctx = ctx, _body = body, _multipart = multipart,
  _escape_xml = function(value) return (gsub(raw(value), "[&<>\"']", xml_entities)) end,
  _escape_json = function(value) return (core.json.encode(value)) end,
}
for _, name in ipairs { "_ctx", "_body", "_multipart", "_escape_xml", "_escape_json" } do
  context[name] = nil
end
setmetatable(context, { __index = helpers })

local globals = getfenv(1)
setfenv(render, setmetatable({}, {
  __index = function(_, name)
    local value = context[name]
    if value == nil then
      return globals[name]
    end
    return value
  end,
}))
local ok, output = pcall(render, context, {}, raw, escape, concat, {})
if not ok then
  return nil, "503", side .. " template rendering: " .. tostring(output)
end
return output
