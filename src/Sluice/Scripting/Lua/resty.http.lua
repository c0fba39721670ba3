-- An HTTP/1.1 client over cosockets.
local http = { _VERSION = "0.17" }
http.__index = http
local find, sub, lower, match, format = string.find, string.sub, string.lower, string.match, string.format
local concat = table.concat

function http.new()
  return setmetatable({ sock = ngx.socket.tcp(), keepalive = true }, http)
end

function http:set_timeout(ms) self.sock:settimeout(ms) return true end
function http:set_timeouts(connect, send, read) self.sock:settimeouts(connect, send, read) return true end
function http:set_keepalive(...)
  if self.keepalive then
    return self.sock:setkeepalive(...)
  end
  self.sock:close()
  return 2, "connection must be closed"
end
function http:get_reused_times() return self.sock:getreusedtimes() end
function http:close() return self.sock:close() end

function http.parse_uri(_, uri, query_in_path)
  local m, err = ngx.re.match(uri, [[^(?:(http[s]?):)?//((?:[^\[\]:/\?]+)|(?:\[.+\]))(?::(\d+))?([^\?]*)\??(.*)]], "jo")
  if not m then
    return nil, err and "failed to match the uri: " .. uri .. ", " .. err or "bad uri: " .. uri
  end
  local scheme, port, path, query = m[1] or "http", tonumber(m[3]), m[4], m[5]
  port = port or (scheme == "https" and 443 or 80)
  if not path or path == "" then path = "/" end
  if query_in_path and query and query ~= "" then path = path .. "?" .. query end
  return { scheme, m[2], port, path, query }
end

function http:connect(options, port, extra)
  if type(options) ~= "table" then
    self.host, self.port = options, port
    return self.sock:connect(options, port, extra)
  end
  local scheme = options.scheme or "http"
  port = options.port or (scheme == "https" and 443 or 80)
  self.host, self.port, self.scheme = options.host, port, scheme
  local pool = options.pool or scheme .. ":" .. options.host .. ":" .. port .. ":" .. tostring(options.ssl_verify)
  local ok, err = self.sock:connect(options.host, port, { pool = pool })
  if not ok then
    return nil, err
  end
  if scheme == "https" and self.sock:getreusedtimes() == 0 then
    ok, err = self.sock:sslhandshake(nil, options.ssl_server_name or options.host, options.ssl_verify ~= false)
    if not ok then
      return nil, err
    end
  end
  return true
end

function http:ssl_handshake(session, name, verify) return self.sock:sslhandshake(session, name, verify) end

local headers_mt = { __index = function(t, name)
  return type(name) == "string" and rawget(t, lower((name:gsub("_", "-")))) or nil
end }

local function read_headers(sock)
  local raw, lowered = {}, {}
  local names = {}
  for _ = 1, 1000 do
    local line, err = sock:receive("*l")
    if not line then
      return nil, err
    end
    if line == "" then
      break
    end
    local name, value = match(line, "^([^:]+):%s*(.-)%s*$")
    if name then
      local key = lower(name)
      local known = names[key]
      if known then
        raw[known] = type(raw[known]) == "table" and raw[known] or { raw[known] }
        table.insert(raw[known], value)
      else
        names[key] = name
        raw[name] = value
      end
    end
  end
  for key, name in pairs(names) do lowered[key] = raw[name] end
  return setmetatable(raw, { __index = function(_, name) return type(name) == "string" and lowered[lower((name:gsub("_", "-")))] or nil end })
end

local function whole(reader)
  local parts = {}
  while true do
    local piece, err = reader(65536)
    if err then
      return nil, err
    end
    if not piece then
      return concat(parts)
    end
    parts[#parts + 1] = piece
  end
end

local function length_reader(sock, left)
  return function(max)
    if left <= 0 then
      return nil
    end
    local piece, err = sock:receiveany(math.min(max or 65536, left))
    if not piece then
      return nil, err
    end
    left = left - #piece
    return piece
  end
end

local function chunked_reader(sock)
  local left, done = 0, false
  return function(max)
    if done then
      return nil
    end
    if left == 0 then
      local line, err = sock:receive("*l")
      if not line then
        return nil, err
      end
      left = tonumber(match(line, "^%x+") or "", 16)
      if not left then
        return nil, "unable to read chunksize"
      end
      if left == 0 then
        done = true
        repeat
          line, err = sock:receive("*l")
        until not line or line == ""
        return nil
      end
    end
    local piece, err = sock:receiveany(math.min(max or 65536, left))
    if not piece then
      return nil, err
    end
    left = left - #piece
    if left == 0 then
      sock:receive("*l")
    end
    return piece
  end
end

local function close_reader(sock)
  return function(max)
    local piece, err = sock:receiveany(max or 65536)
    if not piece and err ~= "closed" then
      return nil, err
    end
    return piece
  end
end

function http:send_request(params)
  local method, path = params.method or "GET", params.path or "/"
  if params.query then
    local query = type(params.query) == "table" and ngx.encode_args(params.query) or params.query
    if query ~= "" then
      path = path .. (find(path, "?", 1, true) and "&" or "?") .. query
    end
  end
  if find(path, "[%c ]") or find(method, "[^%w]") then
    return nil, "bad request line"
  end
  local out, given = { format("%s %s HTTP/%s\r\n", method, path, params.version == 1.0 and "1.0" or "1.1") }, {}
  for name, value in pairs(params.headers or {}) do
    given[lower(name)] = true
    for _, one in ipairs(type(value) == "table" and value or { value }) do
      one = tostring(one)
      if find(one, "[\r\n]") then
        return nil, "bad header " .. name
      end
      out[#out + 1] = name .. ": " .. one .. "\r\n"
    end
  end
  if not given.host then
    local default = self.scheme == "https" and 443 or 80
    out[#out + 1] = "Host: " .. tostring(self.host) .. (self.port and self.port ~= default and ":" .. self.port or "") .. "\r\n"
  end
  if not given["user-agent"] then
    out[#out + 1] = "User-Agent: lua-resty-http/0.17 (Lua) ngx_lua/10021\r\n"
  end
  local body = params.body
  local chunked = type(body) == "function" and not given["content-length"]
  if type(body) == "table" then body = concat(body) end
  if chunked then
    out[#out + 1] = "Transfer-Encoding: chunked\r\n"
  elseif type(body) == "string" and not given["content-length"] then
    out[#out + 1] = "Content-Length: " .. #body .. "\r\n"
  elseif not body and not given["content-length"] and (method == "POST" or method == "PUT" or method == "PATCH") then
    out[#out + 1] = "Content-Length: 0\r\n"
  end
  out[#out + 1] = "\r\n"
  if type(body) == "string" then out[#out + 1] = body end
  local ok, err = self.sock:send(concat(out))
  if not ok then
    return nil, err
  end
  while type(body) == "function" do
    local piece, why = body()
    if why then return nil, why end
    if not piece then
      break
    end
    if #piece > 0 then
      ok, err = self.sock:send(chunked and format("%x\r\n%s\r\n", #piece, piece) or piece)
      if not ok then
        return nil, err
      end
    end
  end
  if chunked then self.sock:send("0\r\n\r\n") end
  return true
end

function http:read_response(params)
  local sock = self.sock
  local status, version, reason, headers
  repeat
    local line, err = sock:receive("*l")
    if not line then
      return nil, err
    end
    version, status, reason = match(line, "^HTTP/(%d%.%d) (%d%d%d) ?(.*)$")
    if not status then
      return nil, "couldn't parse HTTP version from response status line: " .. line
    end
    status = tonumber(status)
    headers, err = read_headers(sock)
    if not headers then
      return nil, err
    end
  until status ~= 100
  local connection = lower(tostring(headers["Connection"] or ""))
  self.keepalive = (version == "1.1" and not find(connection, "close", 1, true)) or find(connection, "keep-alive", 1, true) and true or false
  local answer = { status = status, reason = reason, headers = headers, has_body = false, read_trailers = function() end }
  local reader
  if params.method == "HEAD" or status == 204 or status == 304 then
    reader = function() return nil end
  elseif find(lower(tostring(headers["Transfer-Encoding"] or "")), "chunked", 1, true) then
    reader, answer.has_body = chunked_reader(sock), true
  elseif tonumber(headers["Content-Length"]) then
    reader, answer.has_body = length_reader(sock, tonumber(headers["Content-Length"])), true
  else
    self.keepalive = false
    reader, answer.has_body = close_reader(sock), true
  end
  answer.body_reader = reader
  answer.read_body = function() return whole(reader) end
  return answer
end

function http:request(params)
  local ok, err = self:send_request(params)
  if not ok then
    return nil, err
  end
  return self:read_response(params)
end

function http:request_uri(uri, params)
  params = params or {}
  local parsed, err = self:parse_uri(uri, false)
  if not parsed then
    return nil, err
  end
  local scheme, name, port, path, query = unpack(parsed)
  local ok
  ok, err = self:connect({ scheme = scheme, host = name, port = port, ssl_verify = params.ssl_verify, ssl_server_name = params.ssl_server_name })
  if not ok then
    return nil, err
  end
  local request = {}
  for key, value in pairs(params) do request[key] = value end
  request.path, request.query = params.path or path, params.query or (query ~= "" and query or nil)
  local answer
  answer, err = self:request(request)
  if not answer then
    self:close()
    return nil, err
  end
  local body
  body, err = answer:read_body()
  if not body then
    self:close()
    return nil, err
  end
  answer.body = body
  if params.keepalive == false then
    self:close()
  else
    self:set_keepalive(params.keepalive_timeout, params.keepalive_pool)
  end
  return answer
end

return http
