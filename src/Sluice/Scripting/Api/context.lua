-- The table ngx with its constants, the phase that runs, and what is kept for the request that runs.
local api = ...
local host, box = api.host, api.box
local type, error, pairs, ipairs, tonumber, setmetatable, rawset = type, error, pairs, ipairs, tonumber, setmetatable, rawset
local co_yield = api.coroutine.yield
local WAIT = host.WAIT
local raising = api.raising

-- The phases by the host's numbers
local phases = host.phases
local BEFORE_PROXY = phases.BeforeProxy
local phase_names = { [phases.Rewrite] = "rewrite", [phases.Access] = "access", [phases.BeforeProxy] = "access",
  [phases.HeaderFilter] = "header_filter", [phases.BodyFilter] = "body_filter", [phases.Log] = "log", [phases.Timer] = "timer", [phases.Init] = "init",
  [phases.EventFilter] = "event_filter" }
local contexts = { [phases.Rewrite] = "rewrite_by_lua*", [phases.Access] = "access_by_lua*", [phases.BeforeProxy] = "access_by_lua*",
  [phases.HeaderFilter] = "header_filter_by_lua*", [phases.BodyFilter] = "body_filter_by_lua*", [phases.Log] = "log_by_lua*",
  [phases.Timer] = "ngx.timer", [phases.Init] = "init_by_lua*", [phases.EventFilter] = "event_filter" }
local can_wait = { [phases.Rewrite] = true, [phases.Access] = true, [phases.BeforeProxy] = true, [phases.Timer] = true }

-- Raises: not in this phase
local function disabled()
  error("API disabled in the context of " .. contexts[box[2]], 3)
end

-- For functions that only make sense until the response has begun
local function until_response()
  if box[2] > BEFORE_PROXY then
    error("API disabled in the context of " .. contexts[box[2]], 3)
  end
end

local function wait(op, ...)
  if not can_wait[box[2]] then
    error("API disabled in the context of " .. contexts[box[2]], 3)
  end
  return co_yield(WAIT, op, ...)
end

local array_mt, null = {}, host.null
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

function ngx.get_phase()
  return phase_names[box[2]]
end

api.can_wait, api.disabled, api.kept_of, api.request_table = can_wait, disabled, kept_of, request_table
api.wait, api.contexts, api.host_headers_sent = wait, contexts, host_headers_sent
api.host_set_status, api.until_response, api.METHODS = host_set_status, until_response, METHODS
api.host_is_subrequest, api.array_mt, api.levels = host_is_subrequest, array_mt, levels
