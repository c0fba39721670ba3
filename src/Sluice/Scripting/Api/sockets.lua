-- Cosockets, and the request's body and connection as sockets.
local api = ...
local host, box = api.host, api.box
local ngx = ngx
local type, error, pairs, ipairs, select, tostring, tonumber, setmetatable = type, error, pairs, ipairs, select, tostring, tonumber, setmetatable
local math_floor, concat = math.floor, table.concat
local string = api.string
local sub = string.sub
local MANY, can_wait, checked, contexts, flat = api.MANY, api.can_wait, api.checked, api.contexts, api.flat
local host_is_subrequest, must_be, must_be_text = api.host_is_subrequest, api.must_be, api.must_be_text
local raising, request_table, until_response, wait = api.raising, api.request_table, api.until_response, api.wait

local waits, BEFORE_PROXY = host.waits, host.phases.BeforeProxy
local CONNECT, SEND, RECEIVE, HANDSHAKE = waits.Connect, waits.Send, waits.Receive, waits.Handshake

local sock_try, sock_close, sock_timeouts, sock_new = raising(host.sock_try), raising(host.sock_close), raising(host.sock_timeouts), raising(host.sock_new)
local modes = host.receive_modes
local BYTES, LINE, ALL, ANY, UNTIL = modes.Bytes, modes.Line, modes.All, modes.Any, modes.Until

local socket = {}
socket.__index = socket

-- How many arguments a method was called with, itself among them; in nginx's various words
local function counted(least, most, words, ...)
  local n = select("#", ...)
  if n < least or n > most then
    error(words .. n, 3)
  end
  local self = ...
  if type(self) ~= "table" or not self.n then
    error("bad argument #1 (socket expected, got " .. type(self) .. ")", 3)
  end
end

local function timeout(value)
  value = tonumber(value)
  if value and not (value >= 0 and value <= MANY) then
    error("bad timeout value", 3)
  end
  return value
end

function socket.settimeout(...)
  counted(2, 2, "ngx.socket settimeout: expecting 2 arguments (including the object) but seen ", ...)
  local self, ms = ...
  ms = timeout(ms)
  sock_timeouts(self.n, ms, ms, ms)
end

function socket.settimeouts(...)
  counted(4, 4, "ngx.socket settimeout: expecting 4 arguments (including the object) but seen ", ...)
  local self, connect, send, read = ...
  sock_timeouts(self.n, timeout(connect), timeout(send), timeout(read))
end

local options_of = { keepalive = true, reuseaddr = true, ["tcp-nodelay"] = true, sndbuf = true, rcvbuf = true }
function socket:setoption(option, value)
  if not self.dialed then
    error("socket is never created nor connected", 2)
  elseif option == nil then
    return nil, 'missing the "option" argument'
  elseif not options_of[option] then
    return nil, "unsupported option " .. tostring(option)
  elseif value == nil then
    return nil, 'missing the "value" argument'
  elseif type(value) ~= "boolean" and type(value) ~= "number" then
    error("bad argument #3 to 'ngx_http_lua_ffi_socket_tcp_setoption' (cannot convert '" .. type(value) .. "' to 'int')", 2)
  end
  local _, err = checked(host.sock_option(self.n, option, type(value) == "boolean" and (value and 1 or 0) or value))
  if err then
    return nil, err
  end
  return true
end
function socket:getoption(option)
  if not self.dialed then
    error("socket is never created nor connected", 2)
  elseif option == nil then
    return nil, 'missing the "option" argument'
  elseif not options_of[option] then
    return nil, "unsupported option " .. tostring(option)
  end
  local value, err = checked(host.sock_option(self.n, option))
  if err then
    return nil, err
  end
  return value
end

-- What connect's last argument says
local function pool_of(options)
  local pool, size, backlog = options.pool, options.pool_size, options.backlog
  if pool ~= nil and type(pool) ~= "string" and type(pool) ~= "number" then
    error("bad argument #3 to 'connect' (bad \"pool\" option type: " .. type(pool) .. ")", 3)
  end
  for name, value in pairs { pool_size = size, backlog = tonumber(backlog) } do
    if type(value) ~= "number" then
      error("bad argument #3 to 'connect' (bad \"" .. name .. "\" option type: " .. type(value) .. ")", 3)
    elseif value < (name == "backlog" and 0 or 1) then
      error("bad argument #3 to 'connect' (bad \"" .. name .. "\" option value: " .. value .. ")", 3)
    end
  end
  return pool and tostring(pool), size
end

function socket.connect(...)
  counted(2, 4, "ngx.socket connect: expecting 2, 3, or 4 arguments (including the object), but seen ", ...)
  local self, name, port, options = ...
  must_be_text(name, 1, "connect")
  name = tostring(name)
  if type(port) == "table" then
    port, options = nil, port
  end
  if sub(name, 1, 5) == "unix:" then
    port = nil
    if #name == 5 then
      return nil, 'failed to parse host name "unix:": no path in the unix domain socket'
    end
  else
    port = tonumber(port)
    if not port then
      return nil, "missing the port number"
    elseif port < 0 or port > 65535 then
      return nil, "bad port number: " .. port
    elseif name == "" then
      return nil, 'failed to parse host name "": no host'
    end
  end
  local pool
  self.dialed, self.pool_size = true, nil
  if type(options) == "table" then
    pool, self.pool_size = pool_of(options)
  end
  return wait(CONNECT, self.n, name, port, pool)
end

function socket:sslhandshake(_, name, verify)
  if not self.dialed then
    error("socket is never created nor connected", 2)
  end
  local ok, err = wait(HANDSHAKE, self.n, name, verify and true or false)
  if not ok then
    return nil, err
  end
  return true
end

-- A socket with nothing more to say is not waited for: a script that asks it for ever is one that runs for ever
local function receive(n, mode, size, pattern, inclusive)
  if mode ~= ALL and host.sock_ended(n) then
    return nil, "closed"
  end
  return wait(RECEIVE, n, mode, size, pattern, inclusive)
end

function socket.send(...)
  counted(2, 2, "expecting 2 arguments (including the object), but got ", ...)
  local self, data = ...
  local kind = type(data)
  if kind == "table" then
    local out = {}
    local wrong = flat(data, out, true)
    if wrong then
      error("bad argument #1 to 'send' (" .. wrong .. ")", 2)
    end
    data = concat(out)
  elseif kind == "function" or kind == "userdata" or kind == "thread" then
    error("bad argument #1 to 'send' (string, number, boolean, nil, or array table expected, got " .. kind .. ")", 2)
  end
  if not host.sock_open(self.n) then
    return nil, "closed"
  end
  return wait(SEND, self.n, tostring(data))
end

function socket.receive(...)
  counted(1, 2, "expecting 1 or 2 arguments (including the object), but got ", ...)
  local self, what = ...
  if select("#", ...) == 1 then
    what = "*l"
  end
  local mode, size
  if type(what) == "number" or type(what) == "string" and tonumber(what) then
    mode, size = BYTES, math_floor(tonumber(what))
    if size < 0 then
      if not host.sock_open(self.n) then
        return nil, "closed"
      end
      error("bad argument #1 to 'receive' (bad pattern argument)", 2)
    elseif size == 0 then
      return ""
    end
  elseif what == "*l" or what == "l" then
    mode, size = LINE, 0
  elseif what == "*a" or what == "a" then
    mode, size = ALL, 0
  elseif not host.sock_open(self.n) then
    return nil, "closed"
  else
    error("bad argument #1 to 'receive' (bad pattern argument" .. (type(what) == "string" and sub(what, 1, 1) ~= "*" and ": " .. what or "") .. ")", 2)
  end
  local data = sock_try(self.n, mode, size)
  if data then
    return data
  end
  return receive(self.n, mode, size, nil, false)
end

function socket.receiveany(...)
  counted(2, 2, "expecting 2 arguments (including the object), but got ", ...)
  local self, max = ...
  max = tonumber(max)
  if not max or max < 1 then
    error("bad argument #1 to 'receiveany' (bad max argument)", 2)
  end
  max = math_floor(max)
  local data = sock_try(self.n, ANY, max)
  if data then
    return data
  end
  return receive(self.n, ANY, max, nil, false)
end

function socket.receiveuntil(...)
  counted(2, 3, "expecting 2 or 3 arguments (including the object), but got ", ...)
  local self, pattern, options = ...
  must_be_text(pattern, 1, "receiveuntil")
  pattern = tostring(pattern)
  if options ~= nil then
    must_be("table", options, 2, "receiveuntil")
    if options.inclusive ~= nil and type(options.inclusive) ~= "boolean" then
      error('bad "inclusive" option value type: ' .. type(options.inclusive), 2)
    end
  end
  local inclusive, ended = options and options.inclusive or false, false
  if pattern == "" then
    return nil, "pattern is empty"
  end
  return function(size)
    if size ~= nil and not tonumber(size) then
      error("bad argument #1 to '?' (number expected, got " .. type(size) .. ")", 2)
    end
    if ended then
      ended = false
      return nil, nil, nil
    end
    size = math_floor(tonumber(size) or 0)
    local data, err, partial = receive(self.n, UNTIL, size > 0 and size or 0, pattern, inclusive)
    if data then
      -- in parts: what comes after the last one is nothing
      ended = size > 0 and err
      return data
    elseif partial then
      return nil, err, partial
    end
    return nil, err
  end
end

function socket.setkeepalive(...)
  counted(1, 3, "expecting 1 to 3 arguments (including the object), but got ", ...)
  local self, ms, size = ...
  if ms ~= nil and not tonumber(ms) then
    must_be("number", ms, 1, "setkeepalive")
  end
  local err = checked(host.sock_keep(self.n, tonumber(ms), tonumber(size) or self.pool_size))
  if err then
    return nil, err
  end
  return 1
end

function socket:getreusedtimes()
  if not host.sock_open(self.n) then
    return nil, "closed"
  end
  return host.sock_reused(self.n)
end

function socket.close(...)
  counted(1, 1, "expecting 1 argument (including the object) but seen ", ...)
  local self = ...
  if not host.sock_open(self.n) then
    return nil, "closed"
  end
  sock_close(self.n)
  return 1
end

local udp = setmetatable({}, { __index = socket })
udp.__index = udp
function udp.settimeout(...)
  counted(2, MANY, "ngx.socket settimeout: expecting at least 2 arguments (including the object) but seen ", ...)
  socket.settimeout(...)
end
function udp.setpeername(...)
  counted(2, 3, "ngx.socket.udp setpeername: expecting 2 or 3 arguments (including the object), but seen ", ...)
  local self, name, port = ...
  must_be_text(name, 1, "setpeername")
  if port ~= nil and not tonumber(port) then
    must_be("number", port, 2, "setpeername")
  end
  return socket.connect(self, name, port or 0)
end
function udp.send(...)
  local sent, err = socket.send(...)
  if sent then
    return 1
  end
  return nil, err
end
function udp:receive(size)
  if size ~= nil and not tonumber(size) then
    must_be("number", size, 1, "receive")
  end
  return receive(self.n, ANY, tonumber(size) or 8192, nil, false)
end

local function opened(datagram, methods, ...)
  if select("#", ...) > 0 then
    error("expecting zero arguments, but got " .. select("#", ...), 3)
  elseif not can_wait[box[2]] then
    error("API disabled in the context of " .. contexts[box[2]], 3)
  end
  return setmetatable({ n = sock_new(datagram) }, methods)
end

ngx.socket = {
  tcp = function(...) return (opened(false, socket, ...)) end,
  udp = function(...) return (opened(true, udp, ...)) end,
}
ngx.socket.stream = ngx.socket.tcp
function ngx.socket.connect(...)
  local sock = ngx.socket.tcp()
  local ok, err = sock:connect(...)
  if not ok then
    return nil, err
  end
  return sock
end

-- The request's body, piece by piece
local body_socket = {}
body_socket.__index = body_socket
for _, name in ipairs { "receive", "receiveany", "receiveuntil", "settimeout", "settimeouts" } do
  body_socket[name] = socket[name]
end

-- The client's connection, both ways: the script writes the answer itself
local raw_socket = { send = socket.send }
raw_socket.__index = raw_socket
for name, method in pairs(body_socket) do
  raw_socket[name] = raw_socket[name] or method
end

function ngx.req.socket(raw)
  until_response()
  if host_is_subrequest() then
    error("attempt to read the request body in a subrequest", 2)
  end
  local n, err = checked(host.sock_body(raw and true or false))
  if err then
    return nil, err
  end
  if raw then
    request_table().over = "raw request socket acquired"
  end
  return setmetatable({ n = n }, raw and raw_socket or body_socket)
end
