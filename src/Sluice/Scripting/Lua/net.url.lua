-- net.url: addresses in parts, with the functions of the library of this name.
local api = ...
local type, next, pairs, ipairs, tostring, tonumber, setmetatable = type, next, pairs, ipairs, tostring, tonumber, setmetatable
local concat, insert, sort = table.concat, table.insert, table.sort
local string = api.string
local find, format, gmatch, gsub, lower, match, sub, byte, char =
  string.find, string.format, string.gmatch, string.gsub, string.lower, string.match, string.sub, string.byte, string.char

local url = { version = "1.1.0", options = { separator = "&", cumulative_parameters = false, legal_in_path = {}, legal_in_query = {}, query_plus_is_space = true } }
local ports = { acap = 674, cap = 1026, dict = 2628, ftp = 21, gopher = 70, http = 80, https = 443, iax = 4569, icap = 1344, imap = 143, ipp = 631,
  ldap = 389, mtqp = 1038, mupdate = 3905, news = 2009, nfs = 2049, nntp = 119, rtsp = 554, sip = 5060, snmp = 161, telnet = 23, tftp = 69, vemmi = 575,
  afs = 1483, jms = 5673, rsync = 873, prospero = 191, videotex = 516 }
url.services = ports

local function decode(text, plus)
  if plus then
    text = gsub(text, "+", " ")
  end
  return (gsub(text, "%%(%x%x)", function(digits) return char(tonumber(digits, 16)) end))
end

local function encode(text)
  return (gsub(text, "[^%w%-%._~]", function(c) return format("%%%02X", byte(c)) end))
end

local function encode_path(path)
  return (gsub(path, "[^%w%-%._~!$&'()*+,;=:@/]", function(c) return format("%%%02X", byte(c)) end))
end

-- A query as a table: names in brackets are tables in tables
function url.parseQuery(text, separator)
  local values = {}
  for name, value in gmatch(text, format("([^%s=]+)(=*[^%s=]*)", separator or url.options.separator, separator or url.options.separator)) do
    local plus = url.options.query_plus_is_space
    local key = decode(match(name, "^[^%[]*"), plus)
    local keys = {}
    for inner in gmatch(name, "%[([^%]]*)%]") do
      insert(keys, tonumber(inner) or decode(inner, plus))
    end
    value = decode(gsub(value, "^=+", "", 1), plus)
    if key ~= "" then
      local at, last = values, tonumber(key) or key
      for _, inner in ipairs(keys) do
        if type(at[last]) ~= "table" then
          at[last] = {}
        end
        at, last = at[last], inner == "" and #at[last] + 1 or inner
      end
      if at[last] ~= nil and url.options.cumulative_parameters and #keys == 0 then
        at[last] = type(at[last]) == "table" and at[last] or { at[last] }
        insert(at[last], value)
      else
        at[last] = value
      end
    end
  end
  return setmetatable(values, { __tostring = url.buildQuery })
end

function url.buildQuery(values, separator, prefix)
  local names, out = {}, {}
  for name in pairs(values) do
    insert(names, name)
  end
  sort(names, function(a, b)
    if type(a) == type(b) then
      return a < b
    end
    return tostring(a) < tostring(b)
  end)
  for _, name in ipairs(names) do
    local value, text = values[name], encode(tostring(name))
    if prefix then
      text = prefix .. "[" .. text .. "]"
    end
    if type(value) == "table" then
      insert(out, url.buildQuery(value, separator, text))
    else
      value = encode(tostring(value))
      insert(out, value ~= "" and text .. "=" .. value or text)
    end
  end
  return concat(out, separator or url.options.separator)
end

function url:setQuery(query)
  if type(query) == "table" then
    query = url.buildQuery(query)
  end
  self.query = url.parseQuery(query)
  return query
end

function url:setAuthority(authority)
  self.authority, self.port, self.host, self.userinfo, self.user, self.password = authority, nil, nil, nil, nil, nil
  local userinfo, rest = match(authority, "^(.*)@(.*)$")
  if userinfo then
    self.userinfo = userinfo
    self.user, self.password = match(userinfo, "^([^:]*):(.*)$")
    self.user = self.user or userinfo
  end
  rest = rest or authority
  local host, port = match(rest, "^(.-):(%d*)$")
  if host and not find(host, "[^%[%]%x:.]") and find(host, ":", 1, true) and sub(host, 1, 1) ~= "[" then
    host, port = nil, nil -- an IPv6 address without brackets
  end
  self.port = tonumber(port)
  self.host = lower(host or rest)
  if self.host == "" then
    self.host = nil
  end
  return authority
end

local methods = {}
methods.__index = url

function url:build()
  local out = self.path or ""
  if self.query and next(self.query) ~= nil then
    out = out .. "?" .. tostring(self.query)
  end
  if self.host then
    local authority = self.host
    if self.port and self.port ~= ports[self.scheme] then
      authority = authority .. ":" .. self.port
    end
    if self.user and self.user ~= "" then
      authority = encode(self.user) .. (self.password and ":" .. encode(self.password) or "") .. "@" .. authority
    end
    out = "//" .. authority .. (out ~= "" and sub(out, 1, 1) ~= "/" and sub(out, 1, 1) ~= "?" and "/" or "") .. out
  end
  if self.scheme then
    out = self.scheme .. ":" .. out
  end
  return self.fragment and out .. "#" .. self.fragment or out
end
methods.__tostring = url.build

function methods.__div(self, segment)
  return self:addSegment(segment)
end

function url:addSegment(path)
  if type(path) == "string" then
    self.path = gsub(self.path or "", "/*$", "") .. "/" .. encode_path(gsub(path, "^/*", ""))
  end
  return self
end

function url.parse(address)
  local parsed = setmetatable({ query = setmetatable({}, { __tostring = url.buildQuery }) }, methods)
  local rest = tostring(address or "")
  rest = gsub(rest, "#(.*)$", function(fragment) parsed.fragment = fragment return "" end)
  rest = gsub(rest, "^(%a[%w+.-]*)%:", function(scheme) parsed.scheme = lower(scheme) return "" end)
  rest = gsub(rest, "%?(.*)", function(query) parsed:setQuery(query) return "" end)
  rest = gsub(rest, "^//([^/]*)", function(authority) parsed:setAuthority(authority) return "" end)
  parsed.path = encode_path(decode(rest))
  return parsed
end

local function without_dots(path)
  local out, rooted = {}, sub(path, 1, 1) == "/"
  for segment, slash in gmatch(path, "([^/]*)(/?)") do
    if segment == ".." then
      out[#out] = nil
    elseif segment ~= "." and (segment ~= "" or slash == "/" and #out > 0) then
      insert(out, segment .. slash)
    end
  end
  return (rooted and "/" or "") .. concat(out)
end

function url:resolve(other)
  local base = type(self) == "string" and url.parse(self) or self
  other = type(other) == "string" and url.parse(other) or other
  if other.scheme then
    return other
  end
  other.scheme = base.scheme
  if not other.authority then
    if base.authority then
      other:setAuthority(base.authority)
    end
    if (other.path or "") == "" then
      other.path = base.path
      if next(other.query) == nil then
        other.query = base.query
      end
    else
      if sub(other.path, 1, 1) ~= "/" then
        other.path = gsub(base.path or "", "[^/]*$", "") .. other.path
      end
      other.path = without_dots(other.path)
    end
  end
  return other
end

function url:normalize()
  if type(self) == "string" then
    self = url.parse(self)
  end
  if self.path then
    local path = gsub(without_dots(self.path), "//+", "/")
    self.path = path == "" and self.host and "/" or path
  end
  return self
end

return url
