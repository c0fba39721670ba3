-- Texts: escapes, arguments of a query, Base64.
local api = ...
local host = api.host
local ngx = ngx
local type, error, pairs, select, tostring, tonumber = type, error, pairs, select, tostring, tonumber
local concat = table.concat
local string = api.string
local sub, find, byte, gsub, format, gmatch = string.sub, string.find, string.byte, string.gsub, string.format, string.gmatch
local exactly, must_be, raising, text_of = api.exactly, api.must_be, api.raising, api.text_of
local preload = package.preload

local host_escape, host_unescape = raising(host.escape_uri), raising(host.unescape_uri)
local function escape(text, kind)
  if kind ~= nil then
    if type(kind) ~= "number" then
      error('"type" is not a number', 2)
    elseif kind < 0 or kind > 6 then
      error('"type" ' .. kind .. " out of range", 2)
    end
  end
  return host_escape(text_of(text), kind)
end
local function unescape(text) return host_unescape(text_of(text)) end

local function add_arg(args, key, value)
  local old = args[key]
  if old == nil then
    args[key] = value
  elseif type(old) == "table" then
    old[#old + 1] = value
  else
    args[key] = { old, value }
  end
end

function ngx.decode_args(...)
  if select("#", ...) == 0 then
    error("expecting 1 or 2 arguments but seen 0", 2)
  end
  local text, max = ...
  if type(text) ~= "number" then
    must_be("string", text, 1, "decode_args")
  end
  if max ~= nil and not tonumber(max) then
    must_be("number", max, 2, "decode_args")
  end
  local args, count = {}, 0
  max = tonumber(max) or 100
  for pair, separator in gmatch(text, "([^&]*)(&?)") do
    count = count + 1
    local equals = find(pair, "=", 1, true)
    if pair == "" then
      if separator == "" then
        return args
      end
    elseif equals then
      local key = unescape(sub(pair, 1, equals - 1))
      if key ~= "" then
        add_arg(args, key, unescape(sub(pair, equals + 1)))
      end
    else
      add_arg(args, unescape(pair), true)
    end
    if count == max and separator == "&" then
      return args, "truncated"
    end
  end
  return args
end

local function encode_arg(out, key, value)
  if value == true then
    out[#out + 1] = escape(key)
  elseif value ~= false and value ~= nil then
    if type(value) == "table" then
      for i = 1, #value do
        if type(value[i]) == "table" then
          error("attempt to use table as query arg value", 4)
        end
        encode_arg(out, key, value[i])
      end
    elseif type(value) == "string" or type(value) == "number" then
      out[#out + 1] = escape(key) .. "=" .. escape(tostring(value))
    else
      error("attempt to use " .. type(value) .. " as query arg value", 4)
    end
  end
end

function ngx.encode_args(...)
  local args, out = ..., {}
  exactly(1, "expecting 1 argument but seen ", ...)
  must_be("table", args, 1, "encode_args")
  for key, value in pairs(args) do
    if type(key) ~= "string" then
      error('attempt to use a non-string key in the "args" option table', 2)
    end
    encode_arg(out, key, value)
  end
  return concat(out, "&")
end

ngx.escape_uri, ngx.unescape_uri = escape, unescape

local function hex(bytes)
  return (gsub(bytes, ".", function(c) return format("%02x", byte(c)) end))
end

local encode64, decode64 = raising(host.base64), raising(host.unbase64)

function ngx.encode_base64(text, no_padding)
  if no_padding ~= nil and type(no_padding) ~= "boolean" then
    error("bad no_padding: boolean expected, got " .. type(no_padding), 2)
  end
  return encode64(text_of(text), no_padding)
end
function ngx.decode_base64(text)
  if type(text) ~= "string" then
    error("string argument only", 2)
  end
  return (decode64(text))
end

function ngx.quote_sql_str(...)
  if select("#", ...) ~= 1 then
    error("expecting one argument", 2)
  end
  local text = ...
  if type(text) ~= "number" then
    must_be("string", text, 1, "quote_sql_str")
  end
  return "'" .. gsub(text, "[%z\b\n\r\t\26\\'\"]", { ["\0"] = "\\0", ["\b"] = "\\b", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t",
    ["\26"] = "\\Z", ["\\"] = "\\\\", ["'"] = "\\'", ['"'] = '\\"' }) .. "'"
end

preload["ngx.base64"] = function()
  return {
    encode_base64url = function(text)
      if type(text) ~= "string" then
        return nil, "must provide a string"
      end
      return (gsub(encode64(text, true), "[+/]", { ["+"] = "-", ["/"] = "_" }))
    end,
    decode_base64url = function(text)
      if type(text) ~= "string" then
        return nil, "must provide a string"
      end
      local bytes = not find(text, "[+/]") and decode64((gsub(text, "[-_]", { ["-"] = "+", _ = "/" })))
      if not bytes then
        return nil, "invalid input"
      end
      return bytes
    end,
  }
end

api.hex = hex
