-- Requests to the gateway itself: ngx.location.capture.
local api = ...
local host = api.host
local ngx = ngx
local type, error, pairs, ipairs, select, tostring, setmetatable, unpack = type, error, pairs, ipairs, select, tostring, setmetatable, unpack
local concat = table.concat
local string = api.string
local find = string.find
local io_open = api.io_open
local METHODS, checked, exactly, headers_mt, must_be = api.METHODS, api.checked, api.exactly, api.headers_mt, api.must_be
local request_table, until_response, wait = api.request_table, api.until_response, api.wait

local CAPTURE, BEFORE_PROXY = host.waits.Capture, host.phases.BeforeProxy

ngx.location = {}
local sharing_of = host.sharing
local OWN, COPIED, SHARED = sharing_of.Own, sharing_of.Copied, sharing_of.Shared

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
  until_response()
  if select("#", ...) ~= 1 and select("#", ...) ~= 2 then
    error("expecting one or two arguments", 2)
  end
  return captured(wait(CAPTURE, subrequest(0, select("#", ...), ...)))
end

-- All at once; the answers in the order of the requests
function ngx.location.capture_multi(...)
  until_response()
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

-- A subrequest begins with another request's table as its ngx.ctx; what plugins get as ctx is its own
function api.adopt(number)
  local request = request_table()
  request.ctx, request.lent = lent[number], true
end
