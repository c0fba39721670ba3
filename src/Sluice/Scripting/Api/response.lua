-- The response: what is printed, headers, ngx.exit, ngx.redirect and ngx.exec.
local api = ...
local host, box = api.host, api.box
local ngx = ngx
local type, error, select, tostring, tonumber, setmetatable, rawget = type, error, select, tostring, tonumber, setmetatable, rawget
local concat = table.concat
local string = api.string
local sub, find, gsub, lower = string.sub, string.find, string.gsub, string.lower
local co_yield = api.coroutine.yield
local WAIT, null = host.WAIT, host.null
local all_flat, checked, contexts, disabled = api.all_flat, api.checked, api.contexts, api.disabled
local host_headers_sent, host_set_status, kept_of = api.host_headers_sent, api.host_set_status, api.kept_of
local must_be, must_be_text, raising, request_table = api.must_be, api.must_be_text, api.raising, api.request_table
local unsafe, until_response, wait = api.unsafe, api.until_response, api.wait
local preload = package.preload

local waits, phases = host.waits, host.phases
local FLUSH, EXIT, EOF = waits.Flush, waits.Exit, waits.Eof
local BEFORE_PROXY, HEADER_FILTER, BODY_FILTER, LOG, INIT = phases.BeforeProxy, phases.HeaderFilter, phases.BodyFilter, phases.Log, phases.Init
local EVENT_FILTER = phases.EventFilter

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
  until_response()
  local over = kept_of("over")
  if over then
    return nil, over
  end
  wait(FLUSH, (...) == true)
  return 1
end

function ngx.send_headers()
  until_response()
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
  until_response()
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
  if phase == LOG or phase == INIT or phase == BODY_FILTER or phase == EVENT_FILTER then
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
  until_response()
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
  until_response()
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

preload["ngx.resp"] = function() return ngx.resp end

-- What a plugin's function has returned: a status, a body, or both
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

api.headers_of, api.headers_mt, api.answer, api.piece_arg = headers_of, headers_mt, answer, piece_arg
