-- Makes the world that scripts live in: takes the dangerous out, puts ngx in, and returns the functions that the host calls.
local box, host = ...

local FAIL, WAIT, null = host.FAIL, host.WAIT, host.null
local type, error, pairs, ipairs, select, tostring, tonumber = type, error, pairs, ipairs, select, tostring, tonumber
local setmetatable, getmetatable, rawget, rawset, unpack, pcall = setmetatable, getmetatable, rawget, rawset, unpack, pcall
local next, math_floor, xpcall = next, math.floor, xpcall
local concat, insert, remove = table.concat, table.insert, table.remove
local sub, find, byte, gsub, lower, format, gmatch = string.sub, string.find, string.byte, string.gsub, string.lower, string.format, string.gmatch
local match = string.match
local co_create, co_resume, co_yield, co_status, co_running = coroutine.create, coroutine.resume, coroutine.yield, coroutine.status, coroutine.running
local getinfo, traceback, io_open = debug.getinfo, debug.traceback, io.open
local raw_loadstring, new_userdata = loadstring, newproxy

-- Phases, by the host's numbers
local REWRITE, ACCESS, BEFORE_PROXY, HEADER_FILTER, BODY_FILTER, LOG, TIMER, INIT = 1, 2, 3, 4, 5, 6, 7, 8
local phase_names = { "rewrite", "access", "balancer", "header_filter", "body_filter", "log", "timer", "init" }
phase_names[BEFORE_PROXY] = "access"
local contexts = {
  "rewrite_by_lua*", "access_by_lua*", "access_by_lua*", "header_filter_by_lua*", "body_filter_by_lua*", "log_by_lua*", "ngx.timer", "init_by_lua*",
}
local can_wait = { true, true, true, false, false, false, true, false }

-- Host functions answer FAIL and a message instead of raising
local function checked(first, ...)
  if first == FAIL then
    error((...), 3)
  end
  return first, ...
end

local function raising(f)
  return function(...)
    return checked(f(...))
  end
end

-- How many arguments a function was called with; in nginx's various words
local function exactly(count, words, ...)
  local n = select("#", ...)
  if n ~= count then
    error(words .. n, 3)
  end
end

local function disabled()
  error("API disabled in the context of " .. contexts[box[2]], 3)
end

local function wait(op, ...)
  if not can_wait[box[2]] then
    error("API disabled in the context of " .. contexts[box[2]], 3)
  end
  return co_yield(WAIT, op, ...)
end

local FLUSH, EXIT, SLEEP, CONNECT, SEND, RECEIVE, HANDSHAKE, READ_BODY, CAPTURE, SPAWN, JOIN, SEMAPHORE, RESOLVE, EOF =
  1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14

-- ---------------------------------------------------------------------------------------------------------------- coroutines
-- A wait inside a script's own coroutine goes through to the host, and the host's answer back in.

-- The coroutines that scripts have made; "waiting" for the host. All others are the host's, which alone resumes them
local own = setmetatable({}, { __mode = "k" })

local function passed(co, ok, ...)
  if ok and (...) == WAIT then
    own[co] = "waiting"
    return passed(co, co_resume(co, co_yield(...)))
  end
  own[co] = "own"
  return ok, ...
end

function coroutine.create(f)
  if type(f) ~= "function" then
    error("bad argument #1 to 'create' (Lua function expected)", 2)
  end
  local co = co_create(f)
  own[co] = "own"
  return co
end

function coroutine.status(co)
  local status = co_status(co)
  return status == "suspended" and own[co] ~= "own" and "running" or status
end

function coroutine.resume(co, ...)
  if type(co) ~= "thread" then
    error("bad argument #1 to 'resume' (coroutine expected)", 2)
  elseif own[co] ~= "own" then
    return false, "cannot resume " .. coroutine.status(co) .. " coroutine"
  end
  return passed(co, co_resume(co, ...))
end

local function unwrapped(ok, ...)
  if not ok then
    error((...), 0)
  end
  return ...
end

function coroutine.wrap(f)
  local co = co_create(f)
  return function(...)
    return unwrapped(passed(co, co_resume(co, ...)))
  end
end

-- ------------------------------------------------------------------------------------------------------------------- sandbox

local function text_only(chunk, name)
  if type(chunk) == "string" and byte(chunk, 1) == 27 then
    return nil, "attempt to load bytecode"
  end
  return raw_loadstring(chunk, name)
end

function loadstring(chunk, name)
  if type(chunk) ~= "string" then
    error("bad argument #1 to 'loadstring' (string expected, got " .. type(chunk) .. ")", 2)
  end
  return text_only(chunk, name)
end

function load(chunk, name, _, env)
  if type(chunk) == "function" then
    local parts = {}
    while true do
      local part = chunk()
      if not part or part == "" then
        break
      end
      parts[#parts + 1] = part
    end
    chunk = concat(parts)
  end
  local f, err = text_only(chunk, name or "=(load)")
  if f and env then
    setfenv(f, env)
  end
  return f, err
end

-- what could switch the watchdog off, whatever the settings say
local jit_version, jit_version_num, jit_os, jit_arch = jit.version, jit.version_num, jit.os, jit.arch
local function nothing() end
jit = { version = jit_version, version_num = jit_version_num, os = jit_os, arch = jit_arch,
  on = nothing, off = nothing, flush = nothing, status = host.jit }
package.loaded.jit = jit
package.loaded["jit.opt"], package.loaded["jit.util"], package.loaded["jit.profile"] = nil, nil, nil
local open_ffi = package.preload.ffi
package.preload = {}
debug.sethook, debug.gethook = nothing, nothing
string.dump = nil

local raw_collect = collectgarbage
function collectgarbage(what, ...)
  if what == "stop" or what == "setpause" or what == "setstepmul" or what == "restart" then
    return 0
  end
  return raw_collect(what, ...)
end

-- a coroutine is used again for the next request, and its environment with it
local raw_setfenv = setfenv
function setfenv(f, env)
  if f == 0 then
    error("bad argument #1 to 'setfenv' (a coroutine's own environment cannot be set)", 2)
  end
  local set = raw_setfenv(type(f) == "number" and f + 1 or f, env)
  return set
end

-- An error that the watchdog raises finds hooks switched off in a handler, which could run for ever
function _G.xpcall(f, handler, ...)
  if type(handler) ~= "function" then
    return xpcall(f, handler, ...)
  end
  return xpcall(f, function(err)
    if host.is_stopped() then
      return err
    end
    return handler(err)
  end, ...)
end

local raw_setmetatable = setmetatable
local c_loaders = { package.loaders[3], package.loaders[4] }
local ffi_module = package.loaded.ffi
if host.sandbox() then
  os.execute, os.exit, os.remove, os.rename, os.tmpname, os.setlocale = nil, nil, nil, nil, nil, nil
  io.popen, io.tmpfile, io.output, io.input, io.read, io.lines, io.write, io.stdin = nil, nil, nil, nil, nil, nil, nil, nil
  package.loadlib, package.cpath = nil, nil
  package.loaded.ffi, package.loaded["ffi"] = nil, nil
  debug = { traceback = debug.traceback, getinfo = debug.getinfo, getlocal = debug.getlocal, getmetatable = getmetatable,
    sethook = nothing, gethook = nothing }
  package.loaded.debug = debug
  newproxy, dofile, loadfile, ffi = nil, nil, nil, nil
  c_loaders = {}
else
  ffi_module = ffi_module or open_ffi("ffi")
end
package.loaders = nil

-- Lua's own patterns can take longer than the world is old: those that may are matched by the host's bounded engine
local function long_pattern(pattern)
  local _, repeats = gsub(pattern, "[%*%+%-]", "")
  return repeats
end

local function guard(name)
  local raw = string[name]
  string[name] = function(subject, pattern, ...)
    if type(pattern) == "string" and #pattern > 4 and (type(subject) == "string") and #subject > 64 then
      local repeats = long_pattern(pattern)
      if repeats > 2 and (#subject) ^ (repeats - 1) > 2e8 then
        error("pattern with " .. repeats .. " repetitions on a string of " .. #subject .. " bytes takes too long: use ngx.re", 2)
      end
    end
    return raw(subject, pattern, ...)
  end
end
guard("find") guard("match") guard("gsub") guard("gmatch")

-- ----------------------------------------------------------------------------------------------------------------------- ngx

local array_mt = {}
local levels = { STDERR = 0, EMERG = 1, ALERT = 2, CRIT = 3, ERR = 4, WARN = 5, NOTICE = 6, INFO = 7, DEBUG = 8 }

ngx = {
  null = null, OK = 0, ERROR = -1, AGAIN = -2, DONE = -4, DECLINED = -5,
  HTTP_GET = 2, HTTP_HEAD = 4, HTTP_POST = 8, HTTP_PUT = 16, HTTP_DELETE = 32, HTTP_MKCOL = 64, HTTP_COPY = 128, HTTP_MOVE = 256,
  HTTP_OPTIONS = 512, HTTP_PROPFIND = 1024, HTTP_PROPPATCH = 2048, HTTP_LOCK = 4096, HTTP_UNLOCK = 8192, HTTP_PATCH = 16384, HTTP_TRACE = 32768,
  HTTP_CONTINUE = 100, HTTP_SWITCHING_PROTOCOLS = 101, HTTP_OK = 200, HTTP_CREATED = 201, HTTP_ACCEPTED = 202, HTTP_NO_CONTENT = 204,
  HTTP_PARTIAL_CONTENT = 206, HTTP_SPECIAL_RESPONSE = 300, HTTP_MOVED_PERMANENTLY = 301, HTTP_MOVED_TEMPORARILY = 302, HTTP_SEE_OTHER = 303,
  HTTP_NOT_MODIFIED = 304, HTTP_TEMPORARY_REDIRECT = 307, HTTP_PERMANENT_REDIRECT = 308, HTTP_BAD_REQUEST = 400, HTTP_UNAUTHORIZED = 401,
  HTTP_PAYMENT_REQUIRED = 402, HTTP_FORBIDDEN = 403, HTTP_NOT_FOUND = 404, HTTP_NOT_ALLOWED = 405, HTTP_NOT_ACCEPTABLE = 406,
  HTTP_REQUEST_TIMEOUT = 408, HTTP_CONFLICT = 409, HTTP_GONE = 410, HTTP_UPGRADE_REQUIRED = 426, HTTP_TOO_MANY_REQUESTS = 429, HTTP_CLOSE = 444,
  HTTP_ILLEGAL = 451, HTTP_INTERNAL_SERVER_ERROR = 500, HTTP_METHOD_NOT_IMPLEMENTED = 501, HTTP_NOT_IMPLEMENTED = 501, HTTP_BAD_GATEWAY = 502,
  HTTP_SERVICE_UNAVAILABLE = 503, HTTP_GATEWAY_TIMEOUT = 504, HTTP_VERSION_NOT_SUPPORTED = 505, HTTP_INSUFFICIENT_STORAGE = 507,
  config = { subsystem = "http", debug = false, nginx_version = 1021004, ngx_lua_version = 10021, prefix = function() return host.prefix .. "/" end,
    nginx_configure = function() return "" end },
}
for name, level in pairs(levels) do
  ngx[name] = level
end
local ngx = ngx
package.loaded.ngx = ngx

local METHODS = {}
for _, name in ipairs { "GET", "HEAD", "POST", "PUT", "DELETE", "MKCOL", "COPY", "MOVE", "OPTIONS", "PROPFIND", "PROPPATCH", "LOCK", "UNLOCK", "PATCH", "TRACE" } do
  METHODS[ngx["HTTP_" .. name]] = name
end

-- What is kept for the request that runs, from one piece of it to the next: made when there is something to keep
local function request_table()
  local request = box[1]
  if not request then
    request = {}
    box[1] = request
  end
  return request
end

local function kept_of(name)
  local request = box[1]
  return request and request[name]
end

-- ngx.ctx and ngx.status, ngx.headers_sent, ngx.is_subrequest are asked of the request that runs
local function context()
  local request = request_table()
  local ctx = request.ctx
  if not ctx then
    ctx = { api_ctx = box[3] }
    request.ctx = ctx
  end
  return ctx
end

-- The piece that body_filter has before it
local piece_arg = {}
ngx.arg = setmetatable({}, {
  __index = function(_, key)
    if box[2] ~= BODY_FILTER then
      error("API disabled in the current context", 2)
    end
    return piece_arg[key]
  end,
  __newindex = function(_, key, value)
    if box[2] ~= BODY_FILTER then
      disabled()
    end
    piece_arg[key] = value
  end,
})

local host_status, host_set_status, host_headers_sent = raising(host.status), raising(host.set_status), raising(host.headers_sent)
local host_is_subrequest = raising(host.is_subrequest)
setmetatable(ngx, {
  __index = function(_, key)
    if key == "ctx" then
      return context()
    elseif key == "status" then
      return host_status()
    elseif key == "headers_sent" then
      return host_headers_sent()
    elseif key == "is_subrequest" then
      return host_is_subrequest()
    end
  end,
  __newindex = function(t, key, value)
    if key == "ctx" then
      if type(value) ~= "table" then
        error("ctx should be a table while getting a " .. type(value), 2)
      end
      request_table().ctx = value
    elseif key == "status" then
      if not tonumber(value) then
        error("bad argument #2 to 'ngx_http_lua_ffi_set_resp_status' (cannot convert 'nil' to 'int')", 2)
      end
      host_set_status(tonumber(value))
    else
      rawset(t, key, value)
    end
  end,
})

local MANY = 2147483647

-- Raises for a function of ngx what Lua's own functions raise
local function must_be(kind, value, n, name)
  if type(value) ~= kind then
    error("bad argument #" .. n .. " to '" .. name .. "' (" .. kind .. " expected, got " .. type(value) .. ")", 3)
  end
end

local function text_of(value) return type(value) == "string" and value or value and tostring(value) or "" end

-- Text, or a number for it
local function must_be_text(value, n, name)
  if type(value) ~= "string" and type(value) ~= "number" then
    error("bad argument #" .. n .. " to '" .. name .. "' (string expected, got " .. type(value) .. ")", 3)
  end
end

-- A text with what may not stand in a URI shown, and the first such byte; nil: all is well
local function unsafe(text)
  local at = find(text, "[%z\1-\31\127]")
  return at and gsub(text, "[%z\1-\31\127]", function(c) return format("\\x%02X", byte(c)) end), at and format("0x%02x", byte(text, at))
end

-- Logs

-- The caller as nginx writes it: the file without its directory, the line, the function's name if it has one
local function place(level)
  local info = getinfo(level + 1, "Snl")
  if not info then
    return "?:"
  end
  local file = gsub(info.short_src, "^.*/", "")
  return file .. ":" .. info.currentline .. ":" .. (info.namewhat ~= "" and info.what == "Lua" and " " .. info.name .. "():" or "")
end

local function shown(...)
  local parts = { ... }
  for i = 1, select("#", ...) do
    local value = parts[i]
    local kind = type(value)
    if kind == "table" then
      local mt = getmetatable(value)
      if not (type(mt) == "table" and mt.__tostring) then
        error("bad argument #" .. i .. " to 'log' (expected table to have __tostring metamethod)", 3)
      end
    elseif kind == "function" or kind == "thread" or kind == "userdata" and value ~= null then
      error("bad argument #" .. i .. " to 'log' (string, number, boolean, or nil expected, got " .. kind .. ")", 3)
    end
    parts[i] = value == null and "null" or tostring(value)
  end
  return concat(parts)
end

function ngx.log(...)
  local level = tonumber((...))
  if not level then
    error("bad argument #1 to 'log' (number expected, got " .. (select("#", ...) == 0 and "no value" or type((...))) .. ")", 2)
  elseif level < 0 or level > 8 then
    error("bad argument #1 to 'log' (bad log level: " .. level .. ")", 2)
  end
  host.log(level, place(2), shown(select(2, ...)))
end

function print(...)
  host.log(6, place(2), shown(...))
end

-- Output

-- Puts an array's parts, and those of arrays in it, into out; nil or why not
local function flat(value, out, strict)
  if value == null and not strict then
    out[#out + 1] = "null"
  elseif type(value) ~= "table" then
    if strict and (value == nil or type(value) == "boolean") then
      return "bad data type " .. type(value) .. " found"
    elseif type(value) == "function" or type(value) == "thread" or type(value) == "userdata" then
      return "bad data type " .. type(value) .. " found"
    end
    out[#out + 1] = tostring(value)
  else
    local most = 0
    for key in next, value do
      if type(key) ~= "number" or key < 1 or key ~= math_floor(key) then
        return "non-array table found"
      end
      most = key > most and key or most
    end
    for i = 1, most do
      local wrong = flat(value[i], out, strict)
      if wrong then
        return wrong
      end
    end
  end
end

-- All that is to be printed
local function all_flat(name, out, ...)
  for i = 1, select("#", ...) do
    local value = select(i, ...)
    local wrong = flat(value, out)
    if wrong and type(value) ~= "table" then
      wrong = "string, number, boolean, nil, ngx.null, or array table expected, but got " .. type(value)
    end
    if wrong then
      error("bad argument #" .. i .. " to '" .. name .. "' (" .. wrong .. ")", 3)
    end
  end
  return out
end

local host_print = raising(host.print)
local PRINT_AHEAD = 65536

local function put(text)
  if box[2] > BEFORE_PROXY then
    error("API disabled in the context of " .. contexts[box[2]], 3)
  end
  local over = kept_of("over")
  if over then
    return nil, over
  end
  if host_print(text) > PRINT_AHEAD then
    wait(FLUSH, true)
  end
  return 1
end

function ngx.print(...)
  local first = ...
  if select("#", ...) == 1 and type(first) == "string" then
    return put(first)
  end
  return put(concat(all_flat("print", {}, ...)))
end

function ngx.say(...)
  local out = all_flat("say", {}, ...)
  out[#out + 1] = "\n"
  return put(concat(out))
end

function ngx.flush(...)
  if select("#", ...) > 1 then
    error("attempt to pass " .. select("#", ...) .. " arguments, but accepted 0 or 1", 2)
  elseif select("#", ...) == 1 then
    must_be("boolean", ..., 1, "flush")
  end
  if box[2] > BEFORE_PROXY then
    disabled()
  end
  local over = kept_of("over")
  if over then
    return nil, over
  end
  wait(FLUSH, (...) == true)
  return 1
end

function ngx.send_headers()
  if box[2] > BEFORE_PROXY then
    disabled()
  end
  if kept_of("over") then
    return 1
  end
  host_print("")
  wait(FLUSH, true)
  return 1
end

-- The client sees the end of the answer now; the script goes on
function ngx.eof(...)
  if select("#", ...) > 0 then
    error("no argument is expected", 2)
  end
  if box[2] > BEFORE_PROXY then
    disabled()
  end
  local over = kept_of("over")
  if over then
    return nil, over
  end
  host_print("")
  request_table().over = "seen eof"
  wait(EOF)
  return 1
end

function ngx.exit(status)
  if type(status) ~= "number" then
    error("bad argument #2 to 'ngx_lua_ffi_exit' (cannot convert '" .. type(status) .. "' to 'int')", 2)
  elseif status == ngx.AGAIN or status == ngx.DONE then
    error("bad argument to 'ngx.exit': does not accept NGX_AGAIN or NGX_DONE", 2)
  end
  local phase = box[2]
  if phase == LOG or phase == INIT or phase == BODY_FILTER then
    disabled()
  end
  if status > 999 then
    error("bad status: " .. status, 2)
  end
  if phase == HEADER_FILTER and status >= 300 then
    host_set_status(status)
  end
  return co_yield(WAIT, EXIT, status)
end

local host_resp_set = raising(host.resp_set)

function ngx.redirect(...)
  local n, uri, status = select("#", ...), ...
  if n ~= 1 and n ~= 2 then
    error("expecting one or two arguments", 2)
  end
  must_be_text(uri, 1, "redirect")
  if n == 2 and not tonumber(status) then
    must_be("number", status, 2, "redirect")
  end
  if box[2] > BEFORE_PROXY then
    disabled()
  end
  status = tonumber(status) or 302
  if status ~= 301 and status ~= 302 and status ~= 303 and status ~= 307 and status ~= 308 then
    error("only ngx.HTTP_MOVED_TEMPORARILY, ngx.HTTP_MOVED_PERMANENTLY, ngx.HTTP_PERMANENT_REDIRECT, ngx.HTTP_SEE_OTHER, and ngx.HTTP_TEMPORARY_REDIRECT are allowed", 2)
  end
  if host_headers_sent() then
    error("attempt to call ngx.redirect after sending out the headers", 2)
  end
  uri = tostring(uri)
  local seen, first = unsafe(uri)
  if seen then
    error('unsafe byte "' .. first .. '" in redirect uri "' .. seen .. '"', 2)
  end
  host_resp_set("Location", uri)
  return ngx.exit(status)
end

-- The request is matched anew, with another path, and runs from its beginning
function ngx.exec(...)
  local n, uri, args = select("#", ...), ...
  if n ~= 1 and n ~= 2 then
    error("expecting one or two arguments, but got " .. n, 2)
  end
  must_be_text(uri, 1, "exec")
  uri = tostring(uri)
  if args ~= nil and type(args) ~= "string" and type(args) ~= "number" and type(args) ~= "table" then
    error("bad argument #2 to 'exec' (string, number, or table expected, but got " .. type(args) .. ")", 2)
  end
  if box[2] > BEFORE_PROXY then
    disabled()
  end
  if box[2] == BEFORE_PROXY then
    error("ngx.exec comes too late in before_proxy", 2)
  end
  if uri == "" then
    error("The uri argument is empty", 2)
  end
  if sub(uri, 1, 1) == "@" then
    error("could not find named location \"" .. uri .. "\"", 2)
  end
  if host_headers_sent() then
    error("attempt to call ngx.exec after sending out response headers", 2)
  end
  local own
  local question = find(uri, "?", 1, true)
  if question then
    own = sub(uri, question + 1)
    uri = sub(uri, 1, question - 1)
  end
  args = type(args) == "table" and ngx.encode_args(args) or tostring(args or "")
  ngx.req.set_uri(uri)
  ngx.req.set_uri_args(own and (args == "" and own or own .. "&" .. args) or args)
  local request = request_table()
  request.ctx, request.lent, box[3] = nil, nil, nil
  return co_yield(WAIT, EXIT, 0, true)
end

-- Headers

local function dashed(name)
  name = tostring(name)
  return find(name, "_", 1, true) and (gsub(name, "_", "-")) or name
end

local host_resp_get = raising(host.resp_get)
ngx.header = setmetatable({}, {
  __index = function(_, name)
    return host_resp_get(dashed(name))
  end,
  __newindex = function(_, name, value)
    if value == null or value == "" then
      value = nil
    end
    local kind = type(value)
    if kind ~= "string" and kind ~= "table" and value ~= nil then
      value = tostring(value)
    end
    host_resp_set(dashed(name), value)
  end,
})

local headers_mt = {}
headers_mt.__index = function(headers, name)
  if type(name) ~= "string" then
    return nil
  end
  local key = gsub(lower(name), "_", "-")
  return rawget(headers, key)
end

-- How many headers there may be, and what there is
local function headers_of(headers, more, raw)
  if not raw then
    setmetatable(headers, headers_mt)
  end
  if more then
    return headers, "truncated"
  end
  return headers
end

ngx.resp = {
  get_headers = function(max, raw)
    if max ~= nil and not tonumber(max) then
      must_be("number", max, 1, "get_headers")
    end
    local headers, more = checked(host.resp_headers(max, raw))
    return headers_of(headers, more, raw)
  end,
  add_header = function(name, value)
    if value == nil then
      error("invalid header value", 2)
    end
    host_resp_set(tostring(name), type(value) == "table" and value or tostring(value), true)
  end,
}

-- Arguments

do

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

end

-- The request

local host_args, host_req_set = raising(host.args), raising(host.req_set)

ngx.req = {
  get_method = raising(host.method),
  set_method = function(method)
    checked(host.set_method(METHODS[method] or tostring(method)))
  end,
  get_headers = function(max, raw)
    local headers, more = checked(host.req_headers(max, raw))
    return headers_of(headers, more, raw)
  end,
  set_header = function(name, value)
    if name == nil then
      error("bad 'name' argument: string expected, got nil", 2)
    end
    if value ~= nil and type(value) ~= "table" then
      value = tostring(value)
    end
    host_req_set(tostring(name), value ~= "" and value or nil)
  end,
  clear_header = function(name)
    host_req_set(tostring(name), nil)
  end,
  get_uri_args = function(max, into)
    local args, more = ngx.decode_args(host_args(), max)
    if into then
      for key in pairs(into) do
        into[key] = nil
      end
      for key, value in pairs(args) do
        into[key] = value
      end
      args = into
    end
    if more then
      return args, more
    end
    return args
  end,
  set_uri_args = function(...)
    local args = ...
    if select("#", ...) ~= 1 then
      error("expecting 1 argument but seen " .. select("#", ...), 2)
    elseif type(args) ~= "string" and type(args) ~= "number" and type(args) ~= "table" then
      error("bad argument #1 to 'set_uri_args' (string, number, or table expected, but got " .. type(args) .. ")", 2)
    end
    request_table().args_set = true
    checked(host.set_args(type(args) == "table" and ngx.encode_args(args) or tostring(args)))
  end,
  -- jump: the request is matched anew
  set_uri = function(...)
    local n, uri, jump, binary = select("#", ...), ...
    if n < 1 or n > 3 then
      error("expecting 1, 2 or 3 arguments but seen " .. n, 2)
    end
    must_be_text(uri, 1, "set_uri")
    uri = tostring(uri)
    if uri == "" then
      error("attempt to use zero-length uri", 2)
    end
    if n > 1 then
      must_be("boolean", jump, 2, "set_uri")
    end
    local seen, first = unsafe(uri)
    if seen and not binary then
      error('unsafe byte "' .. first .. '" in uri "' .. seen .. "\" (maybe you want to set the 'binary' argument?)", 2)
    end
    if jump and box[2] ~= REWRITE then
      disabled()
    end
    checked(host.set_uri(uri))
    request_table().internal = true
    if jump then
      box[3] = nil
      return co_yield(WAIT, EXIT, 0, true)
    end
  end,
  read_body = function(...)
    exactly(0, "expecting 0 arguments but seen ", ...)
    if box[2] > BEFORE_PROXY then
      disabled()
    end
    wait(READ_BODY)
  end,
  discard_body = function()
    host_args() -- there is a request
    -- when the answer is on its way, what still comes is thrown away anyhow
    if box[2] > BEFORE_PROXY then
      return
    end
    wait(READ_BODY)
    checked(host.set_body(""))
  end,
  get_body_data = raising(host.body),
  get_body_file = raising(host.body_file),
  get_post_args = function(max)
    if max ~= nil and not tonumber(max) then
      must_be("number", max, 1, "get_post_args")
    end
    if not checked(host.body_known()) then
      error("no request body found; maybe you should turn on lua_need_request_body?", 2)
    end
    if checked(host.body_file()) then
      return nil, "request body in temp file not supported"
    end
    return ngx.decode_args(checked(host.body()) or "", max)
  end,
  set_body_data = function(...)
    exactly(1, "expecting 1 arguments but seen ", ...)
    local data = ...
    must_be_text(data, 1, "set_body_data")
    if not checked(host.body_known()) then
      error("request body not read yet", 2)
    end
    checked(host.set_body(data))
  end,
  init_body = function(size)
    if size ~= nil and not tonumber(size) then
      must_be("number", size, 1, "init_body")
    elseif size and tonumber(size) < 0 then
      error("bad size argument: " .. size, 2)
    end
    if not checked(host.body_known()) then
      error("request body not read yet", 2)
    end
    request_table().new_body = {}
  end,
  append_body = function(...)
    exactly(1, "expecting 1 arguments but seen ", ...)
    local data = ...
    must_be_text(data, 1, "append_body")
    insert(kept_of("new_body") or error("request_body not initialized", 2), data)
  end,
  finish_body = function()
    checked(host.set_body(concat(kept_of("new_body") or error("request_body not initialized", 2))))
  end,
  start_time = raising(host.start_time),
  http_version = raising(host.http_version),
  raw_header = raising(host.raw_header),
  is_internal = function()
    host_args() -- there is a request
    return kept_of("internal") or host_is_subrequest()
  end,
}

-- Variables

local host_var, host_set_var = raising(host.var), raising(host.set_var)
-- nginx's own, which it lets nobody set
local fixed = {}
for name in gmatch([[uri document_uri request_uri request request_method request_id request_time request_length request_completion request_body request_body_file remote_addr remote_port
  remote_user server_addr server_port server_protocol server_name scheme https host hostname status body_bytes_sent bytes_sent connection connection_requests content_length content_type
  is_args query_string time_local time_iso8601 msec pid pipe nginx_version realip_remote_addr realip_remote_port binary_remote_addr proxy_protocol_addr proxy_protocol_port
  upstream_addr upstream_status upstream_response_time upstream_connect_time upstream_header_time upstream_response_length upstream_bytes_received upstream_bytes_sent]], "%S+") do
  fixed[name] = true
end

ngx.var = setmetatable({}, {
  __index = function(_, name)
    local kind = type(name)
    if kind == "number" then
      return nil
    elseif kind ~= "string" then
      error("bad variable name", 2)
    end
    local value = host_var(name)
    -- no query is not an empty one
    if value == "" and (name == "args" or name == "query_string") and not kept_of("args_set") then
      return nil
    end
    return value
  end,
  __newindex = function(_, name, value)
    if type(name) ~= "string" then
      error("bad variable name", 2)
    elseif name == "args" then
      request_table().args_set = value ~= nil
      checked(host.set_args(tostring(value or "")))
    elseif fixed[name] or find(name, "^ssl_") then
      error('variable "' .. name .. '" not changeable', 2)
    elseif find(name, "^http_") or find(name, "^arg_") or find(name, "^cookie_") or find(name, "^sent_http_") then
      error('variable "' .. name .. '" not found for writing; maybe it is a built-in variable that is not changeable or you forgot to use "set $' .. name
        .. " '';\" in the config file to define it first", 2)
    else
      host_set_var(name, value ~= nil and tostring(value) or nil)
    end
  end,
})

-- Time

ngx.now = host.now
function ngx.time() return math_floor(host.now()) end
function ngx.today() return host.time_text(false, true) end
function ngx.localtime() return host.time_text(false, false) end
function ngx.utctime() return host.time_text(true, false) end
function ngx.update_time() end
local http_time, parse_http_time = raising(host.http_time), raising(host.parse_http_time)
function ngx.http_time(seconds)
  if type(seconds) ~= "number" then
    error("number argument only", 2)
  end
  return http_time(seconds)
end
function ngx.cookie_time(seconds)
  if type(seconds) ~= "number" then
    error("number argument only", 2)
  end
  return (gsub(http_time(seconds), "(%d%d) (%a%a%a) (%d%d)(%d%d)", function(day, month, century, year)
    return day .. "-" .. month .. "-" .. (century .. year > "2037" and century or "") .. year
  end, 1))
end
function ngx.parse_http_time(text)
  if type(text) ~= "string" then
    error("string argument only", 2)
  end
  return (parse_http_time(text))
end

function ngx.sleep(...)
  if select("#", ...) ~= 1 then
    error("attempt to pass " .. select("#", ...) .. " arguments, but accepted 1", 2)
  end
  local seconds = tonumber((...))
  if not seconds then
    must_be("number", ..., 1, "sleep")
  elseif not (seconds >= 0) then
    error("invalid sleep duration \"" .. seconds * 1000 .. "\"", 2)
  end
  wait(SLEEP, seconds)
end

-- Encodings and digests

local function hex(bytes)
  return (gsub(bytes, ".", function(c) return format("%02x", byte(c)) end))
end

local encode64, decode64, digest, hmac = raising(host.base64), raising(host.unbase64), raising(host.digest), raising(host.hmac)
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
function ngx.md5(text) return hex(digest("md5", text_of(text))) end
function ngx.md5_bin(text) return digest("md5", text_of(text)) end
function ngx.sha1_bin(text) return digest("sha1", text_of(text)) end
function ngx.hmac_sha1(...)
  exactly(2, "expecting 2 arguments, but got ", ...)
  for i = 1, 2 do
    local value = select(i, ...)
    if type(value) ~= "number" then
      must_be("string", value, i, "hmac_sha1")
    end
  end
  return hmac("sha1", ...)
end
local crc32 = raising(host.crc32)
function ngx.crc32_long(text) return crc32(text_of(text)) end
ngx.crc32_short = ngx.crc32_long
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

function ngx.get_phase()
  return phase_names[box[2]]
end

ngx.worker = {
  id = host.lane, count = host.lanes, pid = host.pid, exiting = host.exiting, pids = function() return { host.pid() } end,
}

-- Regular expressions

local regex, character
do

local host_regex, host_regex_check = raising(host.regex), raising(host.regex_check)

-- As resty.core says it
local function measurable(value, name)
  if type(value) ~= "string" then
    error("attempt to get length of local '" .. name .. "' (a " .. type(value) .. " value)", 4)
  end
end

function regex(subject, pattern, options, from, nth)
  measurable(pattern, "regex")
  if options ~= nil then
    measurable(options, "opts")
  end
  return host_regex(subject, pattern, options, from, nth)
end

local function re_match(subject, pattern, options, ctx, result)
  local from, to, captures = regex(tostring(subject), pattern, options, ctx and ctx.pos or 1)
  if not from then
    if from == false then
      return nil, to
    end
    return nil
  end
  if ctx then
    ctx.pos = to + 1
  end
  if result then
    for key, value in pairs(captures) do
      result[key] = value
    end
    return result
  end
  return captures
end

-- How many bytes one character has
function character(text, at, options)
  local first = options and find(options, "[uU]") and byte(text, at) or 0
  return first >= 240 and 4 or first >= 224 and 3 or first >= 192 and 2 or 1
end

-- The texts and the numbers of groups that a replacement is made of; nil: it is malformed
local function template_of(text)
  local parts, position = {}, 1
  while true do
    local dollar = find(text, "$", position, true)
    if not dollar then
      parts[#parts + 1] = sub(text, position)
      return parts
    end
    parts[#parts + 1] = sub(text, position, dollar - 1)
    local rest = sub(text, dollar + 1)
    local written, number = match(rest, "^((%d+))")
    if not written then
      written, number = match(rest, "^(%{(%d+)%})")
    end
    if written then
      parts[#parts + 1] = tonumber(number)
    elseif sub(rest, 1, 1) == "$" then
      written = "$"
      parts[#parts + 1] = "$"
    else
      return nil
    end
    position = dollar + 1 + #written
  end
end

local function expand(parts, captures)
  local out = {}
  for i, part in ipairs(parts) do
    out[i] = type(part) == "string" and part or captures[part] or ""
  end
  return concat(out)
end

local function substitute(subject, pattern, replacement, options, all)
  local out, count, position = {}, 0, 1
  subject = tostring(subject)
  local template = type(replacement) ~= "function" and template_of(tostring(replacement))
  while position <= #subject + 1 do
    local from, to, captures = regex(subject, pattern, options, position)
    if from == false then
      return nil, nil, to
    elseif template == nil then
      return nil, nil, "failed to compile the replacement template"
    elseif not from then
      break
    end
    count = count + 1
    out[#out + 1] = sub(subject, position, from - 1)
    out[#out + 1] = template and expand(template, captures) or tostring(replacement(captures))
    if to < from then
      local after = from + character(subject, from, options)
      out[#out + 1] = sub(subject, from, after - 1)
      position = after
    else
      position = to + 1
    end
    if not all then
      break
    end
  end
  if count == 0 then
    return subject, 0
  end
  out[#out + 1] = sub(subject, position)
  return concat(out), count
end

ngx.re = {
  match = re_match,
  find = function(subject, pattern, options, ctx, nth)
    local from, to, _, nth_from, nth_to = regex(tostring(subject), pattern, options, ctx and ctx.pos or 1, nth)
    if not from then
      if from == false then
        return nil, nil, to
      end
      return nil
    end
    if nth_from == false then
      return nil, nil, "nth out of bound"
    end
    if ctx then
      ctx.pos = to + 1
    end
    if nth and nth > 0 then
      return nth_from, nth_to
    end
    return from, to
  end,
  gmatch = function(subject, pattern, options)
    measurable(pattern, "regex")
    local wrong = host_regex_check(pattern, options)
    if wrong then
      return nil, wrong
    end
    local position = 1
    subject = tostring(subject)
    return function()
      if position > #subject + 1 then
        return nil
      end
      local from, to, captures = regex(subject, pattern, options, position)
      if not from then
        position = #subject + 2
        if from == false then
          return nil, to
        end
        return nil
      end
      position = to < from and from + character(subject, from, options) or to + 1
      return captures
    end
  end,
  sub = function(subject, pattern, replacement, options)
    return substitute(subject, pattern, replacement, options, false)
  end,
  gsub = function(subject, pattern, replacement, options)
    return substitute(subject, pattern, replacement, options, true)
  end,
}

end

-- Shared dictionaries

do

local dict_get, dict_store, dict_incr, dict_op = raising(host.dict_get), raising(host.dict_store), raising(host.dict_incr), raising(host.dict_op)
local SET, ADD, REPLACE = 0, 1, 2

local function zone_of(self)
  return type(self) == "table" and rawget(self, "name") or error('bad "zone" argument', 3)
end

-- The key as text; or nil and what is wrong with it
local function key_of(key)
  if key == nil then
    return nil, "nil key"
  end
  key = tostring(key)
  if key == "" then
    return nil, "empty key"
  elseif #key > 65535 then
    return nil, "key too long"
  end
  return key
end

local function stored(self, mode, safe, key, value, seconds, flags)
  local zone = zone_of(self)
  local text, err = key_of(key)
  if not text then
    return nil, err
  end
  if (seconds or 0) < 0 then
    error('bad "exptime" argument', 3)
  end
  local kind = type(value)
  if kind == "table" or kind == "function" or kind == "userdata" or kind == "thread" then
    return nil, "bad value type"
  elseif value == nil and mode ~= SET then
    return false, "attempt to add or replace nil values", false
  end
  return dict_store(zone, mode, safe, text, value, seconds or 0, flags or 0)
end

local dict = {}
dict.__index = dict
function dict:get(key)
  local zone = zone_of(self)
  local text, err = key_of(key)
  if not text then
    return nil, err
  end
  local value, flags = dict_get(zone, text)
  if flags ~= nil then
    return value, flags
  end
  return value
end
function dict:get_stale(key)
  local zone = zone_of(self)
  local text, err = key_of(key)
  if not text then
    return nil, err
  end
  local value, flags, stale = dict_get(zone, text, true)
  if value ~= nil then
    return value, flags, stale
  elseif flags then
    return nil, flags
  end
  return nil
end
function dict:set(key, value, seconds, flags) return stored(self, SET, false, key, value, seconds, flags) end
function dict:safe_set(key, value, seconds, flags) return stored(self, SET, true, key, value, seconds, flags) end
function dict:add(key, value, seconds, flags) return stored(self, ADD, false, key, value, seconds, flags) end
function dict:safe_add(key, value, seconds, flags) return stored(self, ADD, true, key, value, seconds, flags) end
function dict:replace(key, value, seconds, flags) return stored(self, REPLACE, false, key, value, seconds, flags) end
function dict:delete(key) return stored(self, SET, false, key) end

local function number_or_nil(value, name)
  if value ~= nil and not tonumber(value) then
    error("bad " .. name .. " arg: number expected, got " .. type(value), 3)
  end
  return tonumber(value)
end
function dict:incr(key, by, initial, seconds)
  local zone = zone_of(self)
  local text, err = key_of(key)
  if not text then
    return nil, err
  end
  local amount, first, ttl = tonumber(by), number_or_nil(initial, "init"), number_or_nil(seconds, "init_ttl")
  if not amount then
    error("cannot convert 'nil' to 'double'", 2)
  elseif ttl and ttl < 0 then
    error('bad "init_ttl" argument', 2)
  elseif ttl and not first then
    error('must provide "init" when providing "init_ttl"', 2)
  end
  local value, forcible
  value, err, forcible = dict_incr(zone, text, amount, first, ttl or 0)
  if not value then
    return nil, err
  elseif first then
    return value, nil, forcible
  end
  return value
end

-- Of lists: how many arguments there must be
for operation, n in pairs { lpush = 3, rpush = 3, lpop = 2, rpop = 2, llen = 2 } do
  dict[operation] = function(...)
    if select("#", ...) ~= n then
      error("expecting " .. n .. " arguments, but only seen " .. select("#", ...), 2)
    end
    local self, key, value = ...
    local zone = zone_of(self)
    local text, err = key_of(key)
    if not text then
      return nil, err
    elseif n == 3 and type(value) ~= "string" and type(value) ~= "number" then
      return nil, "bad value type"
    end
    local result
    result, err = dict_op(zone, operation, text, value)
    if err then
      return nil, err
    end
    return result
  end
end
function dict:ttl(key)
  local zone = zone_of(self)
  local text, err = key_of(key)
  if not text then
    return nil, err
  end
  return dict_op(zone, "ttl", text)
end
function dict:expire(key, exptime)
  local zone = zone_of(self)
  if not exptime then
    error('bad "exptime" argument', 2)
  end
  local text, err = key_of(key)
  if not text then
    return nil, err
  end
  local found, missing = dict_op(zone, "expire", text, exptime + 0)
  if not found then
    return nil, missing
  end
  return true
end
for _, operation in ipairs { "flush_expired", "get_keys" } do
  dict[operation] = function(...)
    local self, max = ...
    if select("#", ...) > 2 then
      error("expecting 1 or 2 argument(s), but saw " .. select("#", ...), 2)
    elseif max ~= nil and not tonumber(max) then
      must_be("number", max, 1, operation)
    end
    return dict_op(zone_of(self), operation, max)
  end
end
function dict:flush_all() dict_op(zone_of(self), "flush_all") end
function dict:capacity() return dict_op(zone_of(self), "capacity") end
function dict:free_space() return dict_op(zone_of(self), "free_space") end

ngx.shared = setmetatable({}, {
  __index = function(shared, name)
    if not host.dict(name) then
      return nil
    end
    local made = setmetatable({ name = name }, dict)
    rawset(shared, name, made)
    return made
  end,
})

end

-- Timers, threads, semaphores

local timers, last_timer = {}, 0

local function start_timer(delay, f, every, ...)
  last_timer = last_timer + 1
  local err = host.timer(last_timer, delay)
  if err then
    return nil, err
  end
  -- it may hold the request's ctx, which is nobody else's then
  request_table().timers = true
  timers[last_timer] = { f = f, every = every, n = select("#", ...), ... }
  return 1
end

local function timer_of(name, ...)
  local n, delay, f = select("#", ...), ...
  if n < 2 then
    error("expecting at least 2 arguments but got " .. n, 3)
  elseif not tonumber(delay) then
    error("bad argument #1 to '" .. name .. "' (number expected, got " .. type(delay) .. ")", 3)
  elseif name == "every" and tonumber(delay) < 0.001 then
    error("delay cannot be zero", 3)
  elseif type(f) ~= "function" then
    error("bad argument #2 to '" .. name .. "' (Lua function expected)", 3)
  end
  return start_timer(tonumber(delay), f, name == "every" and tonumber(delay) or nil, select(3, ...))
end

ngx.timer = {
  at = function(...)
    local ok, err = timer_of("at", ...)
    if ok then
      return ok
    end
    return nil, err
  end,
  every = function(...)
    local ok, err = timer_of("every", ...)
    if ok then
      return ok
    end
    return nil, err
  end,
  running_count = host.timers_running,
  pending_count = host.timers_pending,
}

-- What a light thread returns is kept here and goes through the host as a number: it may be anything
local function kept(results, ...)
  local number = #results + 1
  results[number] = { n = select("#", ...), ... }
  return number
end

-- Of an error the host gets the text too, for the log
local function kept_end(results, trace, ok, ...)
  if ok then
    return kept(results, ...)
  end
  local err = ...
  return -kept(results, err), (type(err) == "string" and err or "(error object is a " .. type(err) .. " value)") .. trace[1]
end

local function results_of(ok, number)
  if not ok then
    return ok, number
  end
  local results = kept_of("results")
  local values = results[number < 0 and -number or number]
  results[number < 0 and -number or number] = false
  return number > 0, unpack(values, 1, values.n)
end

local weak_keys = { __mode = "k" }
ngx.thread = {
  spawn = function(f, ...)
    if type(f) ~= "function" then
      error("bad argument #1 to 'spawn' (Lua function expected)", 2)
    end
    local request = request_table()
    local results = request.results
    if not results then
      results = {}
      request.results = results
    end
    local arguments, n = { ... }, select("#", ...)
    local trace = {}
    local function traced(err)
      trace[1] = gsub(traceback("", 2), "stack traceback:", "%0\ncoroutine 0:", 1)
      return err
    end
    local co = co_create(function() return kept_end(results, trace, xpcall(f, traced, unpack(arguments, 1, n))) end)
    request.threads = request.threads or setmetatable({}, weak_keys)
    request.threads[co] = co_running()
    local started, err = wait(SPAWN, co)
    if not started then
      return nil, err
    end
    return co
  end,
  wait = function(...)
    if not can_wait[box[2]] then
      disabled()
    end
    local threads = kept_of("threads")
    if select("#", ...) == 0 then
      error("at least one coroutine should be specified", 2)
    end
    for i = 1, select("#", ...) do
      local co = select(i, ...)
      if type(co) ~= "thread" then
        error("bad argument #" .. i .. " to 'wait' (lua thread expected)", 2)
      elseif not (threads and threads[co]) then
        error("attempt to wait on a coroutine that is not a user thread", 2)
      elseif threads[co] ~= co_running() then
        error("only the parent coroutine can wait on the thread", 2)
      end
    end
    return results_of(wait(JOIN, ...))
  end,
  kill = function(co)
    if type(co) ~= "thread" then
      error("bad argument #1 to 'kill' (lua thread expected)", 2)
    end
    local threads = kept_of("threads")
    if not (threads and threads[co]) then
      return nil, "not user thread"
    elseif threads[co] ~= co_running() then
      return nil, "killer not parent"
    end
    local err = host.thread_kill(co)
    if err then
      return nil, err
    end
    return 1
  end,
}
-- As nginx and APISIX come: a script ends with its client, and is not asked
function ngx.on_abort()
  if box[2] == TIMER or box[2] == INIT then
    disabled()
  end
  return nil, "lua_check_client_abort is off"
end

local semaphore = {}
semaphore.__index = semaphore
local function of_semaphore(self)
  return getmetatable(self) == semaphore and self.id or error("not a semaphore instance", 3)
end
function semaphore.new(n)
  n = tonumber(n) or 0
  if n < 0 then
    error("no negative number", 2)
  end
  local id, guard = host.semaphore(n), new_userdata(true)
  -- when the script drops it, so does the host
  getmetatable(guard).__gc = function()
    host.sem_free(id)
  end
  return setmetatable({ id = id, guard = guard }, semaphore)
end
function semaphore.post(self, n)
  local id = of_semaphore(self)
  n = tonumber(n) or 1
  if n < 1 then
    error("positive number required", 2)
  end
  host.sem_post(id, n)
  return true
end
function semaphore.count(self)
  local id = of_semaphore(self)
  return host.sem_count(id)
end
function semaphore.wait(self, seconds)
  local id = of_semaphore(self)
  seconds = tonumber(seconds)
  if not seconds then
    error("attempt to perform arithmetic on a nil value", 2)
  elseif seconds < 0 then
    error("no negative number", 2)
  end
  if not can_wait[box[2]] then
    return nil, "API disabled in the context of " .. contexts[box[2]]
  end
  return wait(SEMAPHORE, id, seconds)
end

-- Subrequests

ngx.location = {}
local OWN, COPIED, SHARED = 0, 1, 2

-- nginx sends the body of the request along when the subrequest may have one and is given none
local function own_body(options)
  local method = options.method
  if not (options.always_forward_body or method == ngx.HTTP_POST or method == ngx.HTTP_PUT) then
    return nil
  end
  local name = checked(host.body_file())
  if not name then
    return checked(host.body())
  end
  local file = io_open(name, "rb")
  local body = file and file:read("*a")
  if file then
    file:close()
  end
  return body
end

-- Variables as the host takes them: names and values, each ended by a zero byte
local function variables(vars)
  if vars == nil then
    return nil
  end
  if type(vars) ~= "table" then
    error("Bad vars option value", 4)
  end
  local out = {}
  for name, value in pairs(vars) do
    if type(name) ~= "string" or (type(value) ~= "string" and type(value) ~= "number") then
      error("attempt to use bad variable " .. (type(name) == "string" and "value type " .. type(value) or "name type " .. type(name)), 4)
    end
    out[#out + 1] = name .. "\0" .. value .. "\0"
  end
  return concat(out)
end

-- Tables that subrequests get as their ngx.ctx, by numbers; they run in this state, then
local lent, last_lent = setmetatable({}, { __mode = "v" }), 0
local function lend(ctx)
  if ctx == nil then
    return nil
  elseif type(ctx) ~= "table" then
    error("Bad ctx option value type " .. type(ctx) .. ", expected a Lua table", 4)
  end
  last_lent = last_lent + 1
  lent[last_lent] = ctx
  return last_lent
end

-- index: which one, from 0; n: how many arguments there are for it
local function subrequest(index, n, uri, options)
  if n ~= 1 and n ~= 2 or uri == nil then
    error("query argument " .. index .. " expecting one or two arguments", 3)
  end
  if type(uri) ~= "string" and type(uri) ~= "number" then
    error("bad argument #1 to 'capture' (string expected, got " .. type(uri) .. ")", 3)
  end
  uri = tostring(uri)
  if uri == "" then
    error("unsafe uri in argument #1: ", 3)
  end
  if options ~= nil and type(options) ~= "table" then
    error("expecting table as the 2nd argument for subrequest " .. index .. ", but got " .. type(options), 3)
  end
  options = options or {}
  local args = options.args
  if args ~= nil and type(args) ~= "table" and type(args) ~= "string" and type(args) ~= "number" then
    error("Bad args option value", 3)
  end
  if options.method ~= nil and not METHODS[options.method] then
    error("Bad http request method", 3)
  end
  if type(args) == "table" then
    args = ngx.encode_args(args)
  end
  if args and args ~= "" then
    uri = uri .. (find(uri, "?", 1, true) and "&" or "?") .. args
  end
  local body = options.body
  if type(body) == "number" then
    body = tostring(body)
  elseif body ~= nil and type(body) ~= "string" then
    error("Bad http request body", 3)
  end
  local sharing = options.share_all_vars and SHARED or options.copy_all_vars and COPIED or OWN
  return METHODS[options.method] or "GET", uri, body or own_body(options), sharing, variables(options.vars), lend(options.ctx)
end

local function answers(status, headers, body, ...)
  if status then
    return { status = status, header = setmetatable(headers, headers_mt), body = body, truncated = false }, answers(...)
  end
end

local function captured(status, ...)
  if not status then
    error("failed to issue subrequest: -1", 2)
  end
  return answers(status, ...)
end

function ngx.location.capture(...)
  if box[2] > BEFORE_PROXY then
    disabled()
  end
  if select("#", ...) ~= 1 and select("#", ...) ~= 2 then
    error("expecting one or two arguments", 2)
  end
  return captured(wait(CAPTURE, subrequest(0, select("#", ...), ...)))
end

-- All at once; the answers in the order of the requests
function ngx.location.capture_multi(...)
  if box[2] > BEFORE_PROXY then
    disabled()
  end
  exactly(1, "only one argument is expected, but got ", ...)
  local requests, asked = ..., {}
  must_be("table", requests, 1, "capture_multi")
  if #requests == 0 then
    error("at least one subrequest should be specified", 2)
  end
  for i, request in ipairs(requests) do
    if type(request) ~= "table" then
      error("the query argument " .. i - 1 .. " is not a table, but a " .. type(request), 2)
    end
    local n = 6 * i
    asked[n - 5], asked[n - 4], asked[n - 3], asked[n - 2], asked[n - 1], asked[n] = subrequest(i - 1, #request, request[1], request[2])
  end
  return captured(wait(CAPTURE, unpack(asked, 1, 6 * #requests)))
end

-- ------------------------------------------------------------------------------------------------------------------- sockets

local sock_try, sock_close, sock_timeouts, sock_new = raising(host.sock_try), raising(host.sock_close), raising(host.sock_timeouts), raising(host.sock_new)
local BYTES, LINE, ALL, ANY, UNTIL = 1, 2, 3, 4, 5

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
  if box[2] > BEFORE_PROXY then
    disabled()
  end
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

-- ------------------------------------------------------------------------------------------------------------------- modules

local shipped = {
  "apisix.core", "apisix.plugin", "apisix.consumer", "cjson", "cjson.safe", "resty.http", "resty.string", "resty.lrucache", "resty.md5", "resty.sha1", "resty.sha256",
  "resty.random", "ngx.semaphore", "ngx.base64", "ngx.re", "ngx.req", "ngx.resp", "ngx.ssl", "ngx.errlog", "ngx.balancer", "ngx.process", "table.new", "table.clear", "table.nkeys",
  "table.isarray", "bit", "jit", "string", "table", "math", "os", "io", "coroutine", "debug",
}

local loaded = package.loaded
package.path = host.prefix .. "/lua/?.lua"

local empty_array_mt = {}
local cjson
do
  -- Settings of cjson: what each may be
  local INVALID, SWITCH = { off = 0, on = 1, null = 2 }, { on = 1, off = 0 }
  local CHOICES = {
    encode_empty_table_as_object = INVALID, encode_escape_forward_slash = INVALID, encode_keep_buffer = SWITCH, encode_invalid_numbers = INVALID,
    decode_array_with_array_mt = INVALID, decode_invalid_numbers = SWITCH,
  }
  local LARGEST = { encode_max_depth = MANY, encode_number_precision = 16, decode_max_depth = MANY }

  -- What is the current choice, as it was chosen
  local function choice(value, name, options)
    if type(value) == "boolean" then
      return value
    elseif type(value) ~= "string" and type(value) ~= "number" then
      must_be("string", value, 1, name)
    elseif not options[value] then
      error("bad argument #1 to '" .. name .. "' (invalid option '" .. value .. "')", 3)
    end
    return value ~= "off" and (value == "on" or value)
  end

  local function whole(value, n, name, least, most)
    local number = tonumber(value)
    if not number then
      must_be("number", value, n, name)
    elseif number < least or number > most then
      error("bad argument #1 to '" .. name .. "' (expected integer between " .. least .. " and " .. most .. ")", 3)
    end
    return math_floor(number)
  end

  -- As OpenResty's lua-cjson; each instance has settings of its own
  function cjson(safe, slashes, marked)
    local set = {
      encode_empty_table_as_object = true, encode_escape_forward_slash = slashes, encode_keep_buffer = true, encode_invalid_numbers = false,
      encode_max_depth = 1000, encode_number_precision = 14, decode_array_with_array_mt = marked, decode_invalid_numbers = true, decode_max_depth = 1000,
    }
    local sparse, ratio, sparse_safe = false, 2, 10
    local function at_most(n, name, ...)
      if select("#", ...) > n then
        error("bad argument #" .. n + 1 .. " to '" .. name .. "' (found too many arguments)", 3)
      end
    end
    local json = {
      null = null, _NAME = "cjson", _VERSION = "2.1.0.13", array_mt = array_mt, empty_array_mt = empty_array_mt, empty_array = setmetatable({}, array_mt),
      new = function() return cjson(safe, true, false) end,
      encode_sparse_array = function(...)
        at_most(3, "encode_sparse_array", ...)
        local convert, of, least = ...
        if convert ~= nil then sparse = choice(convert, "encode_sparse_array", SWITCH) end
        if of ~= nil then ratio = whole(of, 2, "encode_sparse_array", 0, MANY) end
        if least ~= nil then sparse_safe = whole(least, 3, "encode_sparse_array", 0, MANY) end
        return sparse, ratio, sparse_safe
      end,
    }
    for name, options in pairs(CHOICES) do
      json[name] = function(...)
        if (...) ~= nil then set[name] = choice(..., name, options) end
        return set[name]
      end
    end
    for name, most in pairs(LARGEST) do
      json[name] = function(...)
        at_most(1, name, ...)
        if (...) ~= nil then set[name] = whole(..., 1, name, 1, most) end
        return set[name]
      end
    end
    local function encode(value)
      local invalid = set.encode_invalid_numbers
      return checked(host.json_encode(value, empty_array_mt, set.encode_escape_forward_slash, not set.encode_empty_table_as_object, invalid == "null" and 2 or invalid and 1 or 0,
        set.encode_max_depth, set.encode_number_precision, sparse, ratio, sparse_safe))
    end
    local function decode(text)
      return checked(host.json_decode(text, set.decode_array_with_array_mt, set.decode_max_depth, not set.decode_invalid_numbers))
    end
    function json.encode(...)
      if select("#", ...) ~= 1 then
        error("bad argument #1 to 'encode' (expected 1 argument)", 2)
      end
      local text, err = encode((...))
      if text then
        return text
      elseif safe then
        return nil, err
      end
      error(err, 2)
    end
    function json.decode(...)
      if select("#", ...) ~= 1 then
        error("bad argument #1 to 'decode' (expected 1 argument)", 2)
      end
      local text = ...
      if type(text) ~= "string" and type(text) ~= "number" then
        if safe then
          return nil, "bad argument #1 to '?' (string expected, got " .. type(text) .. ")"
        end
        must_be("string", text, 1, "decode")
      end
      local value, err = decode(tostring(text))
      if not err then
        return value
      elseif safe then
        return nil, err
      end
      error(err, 2)
    end
    return json
  end
end

local function table_new() return {} end
local function table_clear(t) for key in pairs(t) do t[key] = nil end end
local function nkeys(t) local n = 0 for _ in pairs(t) do n = n + 1 end return n end
local function isarray(t)
  local n = 0
  for key in pairs(t) do
    if type(key) ~= "number" or key < 1 or key ~= math_floor(key) then return false end
    n = n + 1
  end
  return n == #t
end

local function hasher(algorithm)
  return {
    new = function()
      return setmetatable({ parts = {} }, { __index = {
        update = function(self, text) insert(self.parts, text) return true end,
        final = function(self) return digest(algorithm, concat(self.parts)) end,
        reset = function(self) self.parts = {} return true end,
      } })
    end,
  }
end

local preload = package.preload
preload["cjson"] = function() return cjson(false, true, false) end
-- with the settings that APISIX gives it for all
preload["cjson.safe"] = function() return cjson(true, false, true) end
preload["table.new"] = function() return table_new end
preload["table.clear"] = function() return table_clear end
preload["table.nkeys"] = function() return nkeys end
preload["table.isarray"] = function() return isarray end
preload["ngx.resp"] = function() return ngx.resp end
preload["ngx.req"] = function()
  return { add_header = function(name, value)
    if name == nil then
      error("bad 'name' argument: string expected, got nil", 2)
    elseif value == nil then
      error("bad 'value' argument: string or table expected, got nil", 2)
    elseif type(value) == "table" and #value == 0 then
      error("bad 'value' argument: non-empty table expected", 2)
    end
    host_req_set(tostring(name), type(value) == "table" and value or tostring(value), true)
  end }
end
preload["ngx.semaphore"] = function() return semaphore end
preload["ngx.errlog"] = function() return { raw_log = function(level, text) host.log(level, place(2), text) end, get_sys_filter_level = function() return 8 end } end
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
preload["ngx.process"] = function() return { type = function() return "worker" end } end
preload["ngx.balancer"] = function() return {} end
preload["ngx.ssl"] = function() return { server_name = function() return ngx.var.ssl_server_name end } end
preload["ngx.re"] = function()
  return { opt = nothing, split = function(subject, pattern, options, ctx, max, result)
    local start = ctx and ctx.pos or 1
    local out, position, search, fields = {}, start, start, 1
    local limited = max and max > 0
    while not limited or fields < max do
      local from, to, captures = regex(subject, pattern, options, search)
      if from == false then
        if search == start and start > #subject then
          return {}
        end
        return nil, to
      end
      if not from or (to < from and from > #subject) then break end
      search = to < from and from + character(subject, from, options) or to + 1
      if to >= from or from > position then
        out[#out + 1] = sub(subject, position, from - 1)
        for i = 1, #captures do
          if captures[i] then out[#out + 1] = captures[i] end
        end
        fields, position = fields + 1, to + 1
      end
    end
    out[#out + 1] = sub(subject, position)
    while not limited and out[#out] == "" do
      out[#out] = nil
    end
    if result then
      for i = 1, #out + 1 do
        result[i] = out[i]
      end
    end
    return result or out
  end }
end
for _, algorithm in ipairs { "md5", "sha1", "sha256", "sha384", "sha512" } do
  preload["resty." .. algorithm] = function() return hasher(algorithm) end
end
preload["resty.random"] = function() return { bytes = function(n) return host.random(n) end } end
if ffi_module and not host.sandbox() then
  preload["ffi"] = function() return ffi_module end
end

local function source_of(name)
  local text = host.source(name .. ".lua")
  if text then
    return text, "=" .. name .. ".lua"
  end
  local file
  text, file = checked(host.module(name))
  if text then
    return text, "@" .. file
  end
  return nil, file
end

function require(name)
  local known = loaded[name]
  if known ~= nil then
    return known
  end
  local chunk = preload[name]
  if not chunk then
    local text, where = source_of(name)
    if not text then
      for _, loader in ipairs(c_loaders) do
        local f = loader(name)
        if type(f) == "function" then
          chunk = f
          break
        end
      end
      if not chunk then
        error("module '" .. name .. "' not found:\n\tno field package.preload['" .. name .. "']" .. where
          .. "\n\tmodules that come with Sluice: " .. concat(shipped, ", "), 2)
      end
    else
      local err
      chunk, err = text_only(text, where)
      if not chunk then
        error("error loading module '" .. name .. "':\n\t" .. err, 2)
      end
    end
  end
  loaded[name] = true
  local ok, result = pcall(chunk, name)
  if not ok then
    loaded[name] = nil
    error(result, 0)
  end
  if result ~= nil then
    loaded[name] = result
  end
  return loaded[name]
end

local units = {}

-- what functions get as ctx; the host gives it to another request when nothing was put into it
local ctx_mt = {}
local function known_ctx()
  local request = box[1]
  local ctx = request and not request.lent and request.ctx
  return ctx and ctx.api_ctx or box[3]
end
local function running_unit()
  return units[box[4]]
end

-- what the shipped Lua modules need of the host
local inner = { host = host, box = box, checked = checked, raising = raising, wait = wait, array_mt = array_mt, RESOLVE = RESOLVE, hex = hex, place = place,
  shown = shown, nothing = nothing, io_open = io_open, ctx_mt = ctx_mt, known_ctx = known_ctx, running_unit = running_unit }
for _, name in ipairs { "resty.http", "resty.string", "resty.lrucache", "apisix.core", "apisix.plugin", "apisix.consumer" } do
  preload[name] = function()
    local chunk, err = raw_loadstring(host.source(name .. ".lua"), "=" .. name)
    if not chunk then
      error(err)
    end
    return chunk(inner)
  end
end

-- ------------------------------------------------------------------------------------------------------------------- entries

local function api_ctx()
  local known = known_ctx()
  if not known then
    known = require("apisix.core").ctx.new()
    box[3] = known
  end
  local request = box[1]
  if request and request.ctx and not request.lent then
    request.ctx.api_ctx = known
  end
  return known
end

-- the article writes "local function NAME = require(…)", which is no Lua
local function forgiving(text, name)
  local chunk, err = loadstring(text, name)
  if not chunk then
    local mended, count = gsub(text, "local%s+function%s+([^%s%(=]+)%s*=", "local %1 =")
    if count > 0 then
      local other = loadstring(mended, name)
      if other then
        return other
      end
    end
  end
  return chunk, err
end

local function answer(code, body)
  if code ~= nil and type(code) ~= "number" then
    code, body = nil, code
  end
  if code then
    host_set_status(code)
  end
  if body ~= nil then
    if type(body) == "table" then
      local text, err = host.json_encode(body)
      if not text then
        error("failed to encode data: " .. err, 0)
      end
      body = text .. "\n"
    end
    host_print(body)
  end
  if code then
    return co_yield(WAIT, EXIT, code)
  end
end
inner.answer = answer

local entries = { array_mt = array_mt, ctx_mt = ctx_mt }
local parts = { "rewrite", "access", "before_proxy", "header_filter", "body_filter", "log" }

function entries.load(id, kind, name, conf, ...)
  local unit = { id = id, kind = kind, name = name, conf = conf }
  if kind == "plugin" then
    unit.plugin = require("apisix.plugin").get(name)
    if not unit.plugin then
      return "Lua plugin " .. name .. " is not loaded"
    end
    local metadata = ...
    require("apisix.plugin").set_metadata(name, metadata ~= "" and metadata or nil)
    if conf then
      require("apisix.plugin").prepare(name, conf)
      require("apisix.plugin").set_conf_version(conf, id)
      local text = type(conf._meta) == "table" and conf._meta.pre_function
      unit.before = text and assert(forgiving(text))() or nil
    end
  else
    unit.texts = { ... }
    unit.functions = {}
    for i, text in ipairs(unit.texts) do
      local chunk, err = forgiving(text)
      if not chunk then
        return "failed to loadstring: " .. err
      end
      unit.functions[i] = chunk
    end
    unit.fresh = true
  end
  units[id] = unit
end

function entries.unload(id)
  units[id] = nil
end

-- The texts return the functions. One that returns none is itself the function: it runs once per request.
local function made_of(unit, i)
  local chunk = unit.functions[i]
  local made = chunk()
  if type(made) == "function" or type(made) == "table" then
    unit.functions[i] = made
    return made
  end
  return nil
end

local function run_functions(unit, filter)
  local ctx = api_ctx()
  local known = unit.known
  if not known then
    known = {}
    unit.known = known
  end
  for i = 1, #unit.functions do
    -- named as in APISIX, whose users know it from the error log
    local func = known[i]
    if func == nil then
      func = made_of(unit, i) or false
      known[i] = func
    elseif func == false then
      unit.functions[i]()
    end
    if func then
      local code, body = func(unit.conf, ctx)
      if not filter and (code ~= nil or body ~= nil) and box[2] <= BEFORE_PROXY then
        return answer(code, body)
      end
    end
  end
end

-- A plugin's _meta.pre_function
local function prepare(unit, ctx)
  local before = unit.before
  if before then
    local ok, err = pcall(before, unit.conf, ctx)
    if not ok then
      host.log(levels.ERR, "meta pre_function:", "pre_function execution for plugin " .. unit.name .. " failed: " .. tostring(err))
    end
  end
end

function entries.run(id)
  local unit = units[id]
  if unit.kind == "functions" then
    return run_functions(unit)
  elseif unit.kind == "before" then
    return run_functions(unit, true)
  end
  local plugin = unit.plugin
  if unit.kind == "script" then
    plugin = unit.script or made_of(unit, 1)
    unit.script = plugin
  end
  local phase_func = plugin and plugin[parts[box[2]]]
  if phase_func then
    local code, body
    if unit.kind == "script" then
      code, body = phase_func(api_ctx())
    else
      local ctx = api_ctx()
      prepare(unit, ctx)
      code, body = phase_func(unit.conf, ctx)
      local meta = unit.conf and unit.conf._meta
      if type(code) == "number" and code >= 400 and meta and meta.error_response then
        body = meta.error_response
      end
    end
    if (code ~= nil or body ~= nil) and box[2] <= BEFORE_PROXY then
      return answer(code, body)
    end
  end
end

-- One piece in, one piece out
function entries.filter(id, piece, last)
  local unit, arg = units[id], piece_arg
  arg[1], arg[2] = piece, last
  if unit.kind == "functions" then
    run_functions(unit, true)
  else
    local plugin = unit.plugin or unit.script or made_of(unit, 1)
    unit.script = not unit.plugin and plugin or nil
    local phase_func = plugin and plugin.body_filter
    if phase_func then
      if unit.kind == "script" then
        phase_func(api_ctx())
      else
        local ctx = api_ctx()
        prepare(unit, ctx)
        phase_func(unit.conf, ctx)
      end
    end
  end
  local out = arg[1]
  if type(out) == "table" then
    out = concat(all_flat("arg", {}, out))
  end
  local ended = arg[2] and not last
  arg[1], arg[2] = nil, nil
  return out, ended
end

-- A route's filter_func
function entries.ask(id)
  local unit = units[id]
  local f = unit.known or unit.functions[1]()
  unit.known = f
  if type(f) ~= "function" then
    error("filter_func must return a function", 0)
  end
  return f(api_ctx().var) and true or false
end

function entries.timer(id, premature)
  local timer = timers[id]
  timers[id] = nil
  if not timer then
    return
  end
  if timer.every and not premature then
    start_timer(timer.every, timer.f, timer.every, unpack(timer, 1, timer.n))
  end
  return timer.f(premature, unpack(timer, 1, timer.n))
end

-- nil, or what is wrong with a function's text
function entries.check(text, whole)
  local chunk, err = forgiving(text)
  if not chunk then
    return "failed to loadstring: " .. err
  end
  if whole then
    return nil
  end
  local ok, made = pcall(chunk)
  if ok and made ~= nil and type(made) ~= "function" then
    return "only accept Lua function, the input code type is " .. type(made)
  end
end

function entries.plugin(name)
  return require("apisix.plugin").load(name)
end

function entries.plugin_check(name, kind, conf)
  return require("apisix.plugin").check(name, kind, conf)
end

-- Of all plugins
function entries.destroy()
  if loaded["apisix.plugin"] then
    require("apisix.plugin").destroy()
  end
end

-- A subrequest begins with another request's table as its ngx.ctx; what plugins get as ctx is its own
function entries.adopt(number)
  local request = request_table()
  request.ctx, request.lent = lent[number], true
end

-- What a script makes of a variable that it has registered, perhaps in another state
function entries.variable(name, plugin)
  local ctx = api_ctx()
  if plugin ~= "" and not (inner.registered and inner.registered[name]) then
    require("apisix.plugin").get(plugin)
  end
  local value = inner.registered[name] and ctx.var[name]
  return value ~= nil and tostring(value) or nil
end

return entries
