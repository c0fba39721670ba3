-- The part of apisix.core that plugins use.
local api = ...
local host, checked, nothing, io_open = api.host, api.checked, api.nothing, api.io_open
local ngx, type, pairs, ipairs, select, tostring, tonumber, setmetatable = ngx, type, pairs, ipairs, select, tostring, tonumber, setmetatable
local concat, insert, remove, sort = table.concat, table.insert, table.remove, table.sort
local find, sub, gsub, lower = string.find, string.sub, string.gsub, string.lower

local core = { version = { VERSION = "3.18.0" }, empty_tab = {}, id = {}, ip = {}, log = {}, json = {}, table = {}, string = {}, request = {}, response = {},
  ctx = {}, utils = {}, schema = {}, lrucache = {}, timer = {}, resolver = {}, config = { type = "sluice" }, etcd = {}, os = {}, env = {}, event = { push = nothing, register = nothing, CONST = {} } }
-- Streams, in event_filter
core.stream = { finish = api.finish }

core.version.major, core.version.minor = 3, 18

-- Logs
local levels = { stderr = 0, emerg = 1, alert = 2, crit = 3, error = 4, warn = 5, notice = 6, info = 7, debug = 8 }
for name, level in pairs(levels) do
  core.log[name] = function(...)
    host.log(level, api.place(2), api.shown(...))
  end
end
core.log.delay_exec = function(f, ...)
  return setmetatable({ arguments = { n = select("#", ...), ... } }, { __tostring = function(self) return tostring(f(unpack(self.arguments, 1, self.arguments.n))) end })
end
core.log.new = function() return core.log end
core.log.set_level = nothing

-- JSON
local json = core.json
json.array_mt = api.array_mt
json.null = ngx.null
-- what JSON cannot say as text; a table that has been there already as well, which ends cycles
local function plain(value, seen)
  local kind = type(value)
  if kind ~= "table" then
    return (kind == "function" or kind == "thread" or kind == "userdata" and value ~= ngx.null) and tostring(value) or value
  end
  if seen[value] then
    return tostring(value)
  end
  seen[value] = true
  local copy = {}
  for key, item in pairs(value) do
    copy[type(key) == "number" and key or tostring(key)] = plain(item, seen)
  end
  return setmetatable(copy, getmetatable(value) == api.array_mt and api.array_mt or nil)
end
function json.encode(value, force)
  return checked(host.json_encode(force and plain(value, {}) or value))
end
function json.decode(text)
  if type(text) ~= "string" then
    return nil, "expect a string"
  end
  return host.json_decode(text, true)
end
json.stably_encode = function(value)
  local function stable(v)
    if type(v) ~= "table" or getmetatable(v) == api.array_mt or #v > 0 then
      return checked(host.json_encode(v))
    end
    local keys, parts = {}, {}
    for key in pairs(v) do keys[#keys + 1] = tostring(key) end
    sort(keys)
    for i, key in ipairs(keys) do
      parts[i] = host.json_encode(key) .. ":" .. stable(v[key])
    end
    return "{" .. concat(parts, ",") .. "}"
  end
  return stable(value)
end
json.delay_encode = function(value, force)
  return setmetatable({}, { __tostring = function() return json.encode(value, force) or "" end })
end

-- Tables
local tab = core.table
tab.new, tab.clear, tab.nkeys, tab.isarray = require("table.new"), require("table.clear"), require("table.nkeys"), require("table.isarray")
setmetatable(tab, { __index = table })
tab.empty_tab = core.empty_tab
tab.pack = function(...) return { n = select("#", ...), ... } end
tab.unpack = function(t, from, to) return unpack(t, from or 1, to or t.n or #t) end
function tab.insert_tail(t, ...)
  local n = #t
  for i = 1, select("#", ...) do
    n = n + 1
    t[n] = select(i, ...)
  end
  return n
end
function tab.set(t, ...)
  for i = 1, select("#", ...) do t[i] = select(i, ...) end
end
function tab.array_find(t, value)
  if type(t) ~= "table" then return nil end
  for i, item in ipairs(t) do
    if item == value then return i end
  end
  return nil
end
function tab.try_read_attr(t, ...)
  for i = 1, select("#", ...) do
    if type(t) ~= "table" then return nil end
    t = t[select(i, ...)]
  end
  return t
end
-- options.shallows: ways like "self.a.b" whose values are not copied
local function deepcopy(value, seen, way, shallow)
  if type(value) ~= "table" then return value end
  if seen[value] then return seen[value] end
  local copy = {}
  seen[value] = copy
  for key, item in pairs(value) do
    local to = shallow and way .. "." .. tostring(key)
    copy[key] = shallow and shallow[to] and item or deepcopy(item, seen, to, shallow)
  end
  return setmetatable(copy, getmetatable(value))
end
function tab.deepcopy(value, options)
  local shallow
  if options and options.shallows then
    shallow = {}
    for _, way in ipairs(options.shallows) do shallow[way] = true end
  end
  return deepcopy(value, {}, "self", shallow)
end
tab.clone = function(t)
  local copy = {}
  for key, value in pairs(t) do copy[key] = value end
  return setmetatable(copy, getmetatable(t))
end
-- arrays are replaced, null removes
local function merge(into, from)
  for key, value in pairs(from) do
    local old = into[key]
    if type(value) == "table" and type(old) == "table" and tab.nkeys(old) ~= #old then
      merge(old, value)
    elseif value == ngx.null then
      into[key] = nil
    else
      into[key] = value
    end
  end
  return into
end
tab.merge = merge
-- nil, nil, the value; or a status and what is wrong with the path
function tab.patch(value, path, new)
  local target, names = value, require("ngx.re").split(path, "/")
  for i = 1, #names - 1 do
    if target[names[i]] == nil then target[names[i]] = {} end
    target = target[names[i]]
    if type(target) ~= "table" then
      return 400, "invalid sub-path: /" .. concat(names, "/", 1, i)
    end
  end
  if type(target) ~= "table" then
    return 400, "invalid sub-path: /" .. path
  end
  local last = names[#names]
  if not last or last == "" then
    return nil, nil, new
  end
  target[last] = new
  return nil, nil, value
end
function tab.deep_eq(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then return a == b end
  for key, value in pairs(a) do if not tab.deep_eq(value, b[key]) then return false end end
  for key in pairs(b) do if a[key] == nil then return false end end
  return true
end
function tab.pick(t, keys)
  local picked = {}
  for key, value in pairs(t) do
    if keys[key] then picked[key] = value end
  end
  return picked
end
function tab.array_to_map(list)
  local map = {}
  for _, value in ipairs(list) do map[value] = true end
  return map
end
tab.setmt__gc = function(t, mt) return setmetatable(t, mt) end
core.tablepool = { fetch = function() return {} end, release = nothing }
tab.pool_fetch, tab.fetch, tab.release = core.tablepool.fetch, core.tablepool.fetch, nothing

-- Strings
local str = core.string
setmetatable(str, { __index = string })
function str.find(text, what, from) return find(text, what, from or 1, true) end
function str.has_prefix(text, prefix)
  if type(text) ~= "string" or type(prefix) ~= "string" then
    error("unexpected type: s:" .. type(text) .. ", prefix:" .. type(prefix), 2)
  end
  return sub(text, 1, #prefix) == prefix
end
function str.has_suffix(text, suffix)
  if type(text) ~= "string" or type(suffix) ~= "string" then
    error("unexpected type: s:" .. type(text) .. ", suffix:" .. type(suffix), 2)
  end
  return #suffix == 0 or sub(text, -#suffix) == suffix
end
function str.rfind_char(text, char, from)
  for i = from or #text, 1, -1 do
    if sub(text, i, i) == char then return i end
  end
  return nil
end
function str.compress_script(text)
  text = ngx.re.gsub(text, [[^\s+]], "", "mjo")
  return (ngx.re.gsub(text, [[,\s+]], ",", "mjo"))
end
function str.trim(text) return (gsub(text, "^%s*(.-)%s*$", "%1")) end

-- Contexts
local host_var, host_set_var = api.raising(host.var), api.raising(host.set_var)
local registered, changing = {}, {}
api.registered_var = function(name)
  local ctx, own = api.known_ctx(), registered[name]
  local kept = ctx and rawget(ctx, "_vars")
  if kept and kept[name] ~= nil then
    return kept[name]
  end
  local value = own(ctx)
  if ctx and value ~= nil and not changing[name] then
    if not kept then
      kept = {}
      rawset(ctx, "_vars", kept)
    end
    kept[name] = value
  end
  return value
end
api.registered = registered
local var_mt = {
  __index = function(self, key)
    if type(key) ~= "string" then
      error("invalid argument, expect string value", 2)
    end
    if registered[key] then
      return api.registered_var(key)
    elseif sub(key, 1, 4) == "arg_" then
      -- decoded, where nginx's is not
      local value = ngx.req.get_uri_args(0)[sub(key, 5)]
      if type(value) == "table" then
        return value[1]
      end
      return value
    elseif sub(key, 1, 9) == "post_arg_" and core.request.header(nil, "Content-Type") == "application/x-www-form-urlencoded" then
      local value = core.request.get_post_args()[sub(key, 10)]
      if type(value) == "table" then
        return value[1]
      end
      return value
    elseif sub(key, 1, 9) == "post_arg." then
      -- a member of the body, by the names that lead there
      local value, err = core.request.get_request_body_table(api.known_ctx())
      if value == nil then
        core.log.warn("failed to fetch post args value by key: ", sub(key, 10), " error: ", err)
      end
      for name in string.gmatch(sub(key, 10), "[^.]+") do
        value = type(value) == "table" and value[name] or nil
      end
      return value
    end
    return host_var(key)
  end,
  __newindex = function(_, key, value)
    if registered[key] then
      local ctx = api.known_ctx()
      ctx._vars = ctx._vars or {}
      ctx._vars[key] = value
    end
    if key == "upstream_uri" or key == "args" then
      ngx.var[key] = value
    end
    host_set_var(key, value ~= nil and tostring(value) or nil)
  end,
}
local shared_var = setmetatable({}, var_mt)
local lazily = {
  route_id = "route_id", route_name = "route_name", service_id = "service_id", service_name = "service_name", consumer_name = "consumer_name",
  consumer_group_id = "consumer_group_id", conf_id = "route_id", curr_req_matched_uri = "matched_uri",
}
local function attach(consumer)
  local name = consumer.username or consumer.consumer_name
  if not name or not checked(host.consumer_attach(name, consumer.credential_id)) then
    -- one that a script has made up
    ngx.req.set_header("X-Consumer-Username", name)
    ngx.req.set_header("X-Credential-Identifier", consumer.credential_id)
    ngx.req.set_header("X-Consumer-Custom-ID", consumer.custom_id)
  end
end
-- The route that was matched, as it was stored
local function matched_route()
  local value = host.matched_route()
  local route = value and { value = value, key = "/apisix/routes/" .. tostring(value.id), has_domain = false }
  local ctx = api.known_ctx()
  if ctx and route then
    rawset(ctx, "matched_route", route)
  end
  return route
end
-- Which of the route's uris and hosts the request fits
local function matched_patterns()
  local path = host_var("matched_uri")
  if not path then
    return nil
  end
  local route, name = matched_route().value, host_var("host") or ""
  for _, pattern in ipairs(route.hosts or { route.host }) do
    local rest = pattern:match("^%*(.*)$")
    if pattern == name or rest and (rest == "" or name:sub(-#rest) == rest) then
      return { _path = path, _host = pattern }
    end
  end
  return { _path = path }
end
-- A ctx is empty as long as nothing is put into it: what is in it otherwise is found here
local ctx_mt = api.ctx_mt
ctx_mt.__index = setmetatable({ var = shared_var, conf_type = "route" }, {
  __index = function(_, key)
    local name = lazily[key]
    if name then
      return host_var(name)
    elseif key == "consumer" then
      local ctx = api.known_ctx()
      return ctx and rawget(ctx, "_consumer") or checked(host.consumer_attached())
    elseif key == "matched_route" then
      return matched_route()
    elseif key == "curr_req_matched" then
      return matched_patterns()
    elseif key == "conf_version" or key == "_plugin_name" then
      local unit = api.running_unit()
      if unit then
        return key == "conf_version" and unit.id or unit.plugin and unit.name
      end
    end
  end,
})
-- who asks is the pipeline's business, whichever way a plugin says it
function ctx_mt.__newindex(ctx, key, value)
  if key == "consumer" and type(value) == "table" then
    attach(value)
    key = "_consumer"
  end
  rawset(ctx, key, value)
end
function core.ctx.new() return setmetatable({}, ctx_mt) end
function core.ctx.set_vars_meta(ctx) ctx.var = shared_var end
core.ctx.release_vars = nothing
-- a variable for scripts: what the function makes of the request's ctx
function core.ctx.register_var(name, f, options)
  if type(f) ~= "function" then
    error("the getter of a registered var should be a function", 2)
  end
  registered[name], changing[name] = f, options and options.no_cacheable or nil
  host.register_var(name, api.loading or "")
end

-- Requests
local req = core.request
local function ctx_of(ctx)
  return ctx or api.known_ctx()
end
function req.headers() return ngx.req.get_headers(0) end
function req.header(ctx, name)
  if type(ctx) == "string" then name = ctx end
  local value = ngx.req.get_headers(0)[name]
  return type(value) == "table" and value[1] or value
end
local function named(name)
  if type(name) ~= "string" then
    error("invalid header name " .. string.format("%q", tostring(name)) .. ": got " .. type(name) .. ", expected string", 3)
  end
  return name
end
-- (ctx, name, value), or the older (name, value)
function req.set_header(ctx, name, value)
  if type(ctx) == "string" then name, value = ctx, name end
  ngx.req.set_header(named(name), value)
end
function req.add_header(ctx, name, value)
  if type(ctx) == "string" then name, value = ctx, name end
  named(name)
  for _, one in ipairs(type(value) == "table" and value or { value }) do
    checked(host.req_set(name, tostring(one), true))
  end
end
function req.get_ip(ctx) return host_var("realip_remote_addr") or host_var("remote_addr") or "" end
function req.get_remote_client_ip(ctx) return host_var("remote_addr") or "" end
function req.get_remote_client_port(ctx) return tonumber(host_var("remote_port")) end
function req.get_uri_args(ctx)
  ctx = ctx_of(ctx)
  ctx.req_uri_args = ctx.req_uri_args or ngx.req.get_uri_args(0)
  return ctx.req_uri_args
end
function req.set_uri_args(ctx, args)
  ctx_of(ctx).req_uri_args = nil
  return ngx.req.set_uri_args(args)
end
function req.get_post_args(ctx, max)
  ctx = ctx_of(ctx)
  if not ctx.req_post_args then
    ngx.req.read_body()
    ctx.req_post_args = ngx.req.get_post_args(max or 100) or {}
  end
  return ctx.req_post_args
end
function req.get_body(max, ctx)
  if type(max) == "table" then max = nil end
  -- what is too long is not even read
  local size, body = max and tonumber(host_var("http_content_length")), nil
  if not (max and size and size > max) then
    ngx.req.read_body()
    body = ngx.req.get_body_data()
    size = body and #body or 0
    local name = not body and ngx.req.get_body_file()
    if name then
      local file, err = io_open(name, "rb")
      if not file then
        return nil, err
      end
      size = file:seek("end")
      if not (max and size > max) then
        file:seek("set")
        body = file:read("*a")
      end
      file:close()
    end
  end
  if max and size > max then
    return nil, "request size " .. size .. " is greater than the maximum size " .. max .. " allowed"
  end
  return body
end
local JSON, FORM, PARTS = "application/json", "application/x-www-form-urlencoded", "multipart/form-data"
-- Name and value of each part; of several with one name the last
local function parts_of(body, content_type)
  local boundary = content_type:match('boundary="([^"]+)"') or content_type:match("boundary=([^;%s]+)")
  if not boundary then
    return nil
  end
  local parts, mark = {}, "--" .. boundary
  local at = find(body, mark, 1, true)
  while at and sub(body, at + #mark, at + #mark + 1) ~= "--" do
    local head = find(body, "\r\n", at + #mark, true)
    local after = head and find(body, "\r\n" .. mark, head, true)
    local value = after and find(body, "\r\n\r\n", head, true)
    if not value then
      return nil
    end
    if value < after then
      local fields = sub(body, head, value)
      local name = fields:match('[;%s]name="([^"]*)"') or fields:match("[;%s]name=([^;%s]+)")
      if name then
        parts[name] = sub(body, value + 4, after - 1)
      end
    end
    at = after + 2
  end
  return at and parts
end
-- Parsed once for the request; a type that is named goes before the request's own
function req.get_request_body_table(ctx, content_type)
  ctx = ctx_of(ctx)
  if ctx._request_body_table ~= nil then
    if content_type and ctx._request_body_type ~= content_type then
      return nil, "request body type mismatch: cached type is " .. tostring(ctx._request_body_type) .. ", expected " .. content_type
    end
    return ctx._request_body_table
  end
  local given, value, err = content_type or req.header(ctx, "Content-Type") or "", nil, nil
  local kind = find(given, JSON, 1, true) and JSON or find(given, FORM, 1, true) and FORM
    or find(given, PARTS, 1, true) and PARTS
  if not kind then
    return nil, "unsupported content-type: " .. given .. ", supported types are: " .. JSON .. ", " .. FORM .. ", " .. PARTS
  elseif kind == FORM then
    value = req.get_post_args(ctx)
  else
    local body
    body, err = req.get_body(nil, ctx)
    if not body then
      return nil, "could not get body: " .. (err or "request body is empty")
    end
    if kind == PARTS then
      value = parts_of(body, given)
      if not value then
        return nil, "failed to parse multipart form data"
      end
    else
      value, err = json.decode(body)
      if not value then
        return nil, "could not parse JSON request body: " .. (err or "invalid JSON")
      end
    end
  end
  ctx._request_body_table, ctx._request_body_type = value, kind
  return value
end
function req.get_json_request_body_table()
  local value, err = req.get_request_body_table(nil, JSON)
  if not value then
    return nil, { message = err }
  end
  return value
end
function req.get_method() return ngx.req.get_method() end
function req.get_scheme() return host_var("scheme") end
function req.get_host() return host_var("host") end
function req.get_port() return tonumber(host_var("server_port")) end
function req.get_path() return host_var("uri") end
function req.get_http_version() return ngx.req.http_version() end
req.set_raw_uri_path = nothing

-- Answers
local resp = core.response
function resp.exit(code, ...)
  local body
  if select("#", ...) > 0 then
    local parts = {}
    for i = 1, select("#", ...) do
      local value = select(i, ...)
      if type(value) == "table" then
        parts[#parts + 1] = checked(host.json_encode(value)) .. "\n"
      elseif value ~= nil then
        parts[#parts + 1] = tostring(value)
      end
    end
    body = concat(parts)
  end
  if code ~= nil and type(code) ~= "number" then
    return api.answer(nil, code)
  end
  return api.answer(code, body)
end
function resp.say(...) return resp.exit(nil, ...) end
local function each_header(put, ...)
  if ngx.headers_sent then
    error("headers have already been sent", 3)
  end
  local count, first = select("#", ...), (...)
  if count == 1 and type(first) == "table" then
    for name, value in pairs(first) do put(name, value) end
    return
  end
  for i = 1, count, 2 do
    put((select(i, ...)), (select(i + 1, ...)))
  end
end
local function put_header(name, value) ngx.header[name] = value end
function resp.set_header(...) each_header(put_header, ...) end
function resp.add_header(...) each_header(ngx.resp.add_header, ...) end
function resp.get_header(name) return ngx.header[name] end
function resp.get_headers() return ngx.resp.get_headers() end
function resp.set_response_source(ctx, source)
  if ctx then ctx._resp_source = source end
end
function resp.get_response_source(ctx)
  local source = ctx and ctx._resp_source
  if source or not ctx or not host_var("upstream_addr") then
    return source or "apisix"
  end
  return host_var("upstream_header_time") and "upstream" or "nginx"
end
function resp.get_upstream_status(ctx) return tonumber(sub(host_var("upstream_status") or "", -3)) end
function resp.set_response_header(name, value) ngx.header[name] = value end
function resp.clear_header_as_body_modified()
  for _, name in ipairs { "Content-Length", "Content-Encoding", "Last-Modified", "ETag" } do
    ngx.header[name] = nil
  end
end
function resp.hold_body_chunk(ctx, hold_the_copy, max)
  local chunk, last = ngx.arg[1], ngx.arg[2]
  local key = ctx._plugin_name or "held"
  ctx._held = ctx._held or {}
  local held = ctx._held[key]
  if type(chunk) == "string" and chunk ~= "" then
    if not held then
      held = { n = 0 }
      ctx._held[key] = held
    end
    held[#held + 1] = chunk
    held.n = held.n + #chunk
    if max and held.n >= max then
      return sub(concat(held), 1, max)
    end
  end
  if last then
    ctx._held[key] = nil
    return held and concat(held) or max and type(chunk) == "string" and sub(chunk, 1, max) or chunk
  end
  if not hold_the_copy then
    ngx.arg[1] = nil
  end
  return nil
end

-- Schemas
local texts = setmetatable({}, { __mode = "k" })
local function same(target, value)
  if type(target) ~= "table" or type(value) ~= "table" then return value end
  for key, item in pairs(value) do target[key] = type(target[key]) == "table" and same(target[key], item) or item end
  return target
end
function core.schema.check(schema, value)
  local text = texts[schema]
  if not text then
    text = checked(host.json_encode(schema))
    texts[schema] = text
  end
  local encoded, err = host.json_encode(value)
  if not encoded then
    return false, err
  end
  local filled, why = checked(host.check_schema(text, encoded))
  if filled == nil then
    return false, why
  end
  same(value, filled)
  return true
end
function core.schema.valid(schema)
  return (pcall(core.schema.check, schema, {}))
end
core.schema.TYPE_CONSUMER, core.schema.TYPE_METADATA = 1, 2

-- Caches
local lrucache = require("resty.lrucache")
local function cache(options)
  options = options or {}
  local of_plugin = options.type == "plugin"
  local store, ttl = lrucache.new(options.count or of_plugin and 8 or 1024), options.ttl or of_plugin and 300 or 3600
  return function(key, version, create, ...)
    local entry, stale = store:get(key)
    if entry and entry.version == version then
      return entry.value
    end
    -- its time is over, but it is still the same
    if stale and not options.invalid_stale and stale.version == version then
      store:set(key, stale, ttl)
      return stale.value
    end
    if entry and options.release then
      options.release(entry.value)
    end
    local value, err = create(...)
    if value ~= nil then
      store:set(key, { value = value, version = version }, ttl)
    end
    return value, err
  end
end
core.lrucache.new = cache
core.lrucache.global = cache()
local function key_of(ctx, extra)
  return tostring(ctx.conf_type) .. "#" .. tostring(ctx.conf_id) .. (extra and "#" .. extra or "")
end
function core.lrucache.plugin_ctx(lru, ctx, extra, create, ...) return lru(key_of(ctx, extra), ctx.conf_version, create, ...) end
function core.lrucache.plugin_ctx_id(ctx, extra) return key_of(ctx, extra) .. "#" .. tostring(ctx.conf_version) end

-- Timers, names, files
core.sleep = ngx.sleep
-- Runs again and again: each_ttl seconds at a stretch, with a pause after each run; begun every check_interval
local function timed(premature, timer)
  if timer.running or premature or timer.stopped then
    return
  end
  timer.running, timer.start_time = true, ngx.now()
  repeat
    local ok, err = pcall(timer.callback_fun)
    if not ok then
      core.log.error("failed to run the timer: ", timer.name, " err: ", err)
    end
    local pause = ok and timer.sleep_succ or timer.sleep_fail
    if pause > 0 then ngx.sleep(pause) end
  until timer.stopped or timer.each_ttl and ngx.now() >= timer.start_time + timer.each_ttl
  timer.running = false
end
function core.timer.new(name, f, options)
  if not name then return nil, "missing argument: name" end
  if not f then return nil, "missing argument: callback_fun" end
  options = options or {}
  local timer = { name = name, each_ttl = options.each_ttl or 1, sleep_succ = options.sleep_succ or 1, sleep_fail = options.sleep_fail or 5,
    start_time = 0, callback_fun = f, running = false }
  timer.cancel = function() timer.stopped = true end
  local ok, err = ngx.timer.every(options.check_interval or 1, timed, timer)
  if ok then
    ok, err = ngx.timer.at(0, timed, timer)
  end
  return ok and timer or nil, err
end
function core.resolver.parse_domain(name) return api.wait(host.waits.Resolve, name) end
core.utils.dns_parse = core.resolver.parse_domain
local utils = core.utils
function utils.uuid() return host.id() end
function utils.get_seed_from_urandom()
  local seed, bytes = 0, host.random(8)
  for i = 1, 8 do seed = 256 * seed + bytes:byte(i) end
  return seed
end
function utils.gethostname() return host_var("hostname") end
function utils.split_uri(uri) return require("ngx.re").split(uri, "/") end
utils.sleep = ngx.sleep
-- host and port; brackets of an IPv6 address stay
function utils.parse_addr(addr)
  if sub(addr, 1, 1) == "[" then
    local name, port = addr:match("^(.*%]):(.+)$")
    return name or addr, tonumber(port)
  end
  local dot, colons = find(addr, ".", 1, true), select(2, gsub(addr, ":", ""))
  if colons > 1 and not (dot and dot < find(addr, ":", find(addr, ":", 1, true) + 1, true)) then
    return addr
  end
  local name, port = addr:match("^(.*):(.+)$")
  return name or addr, tonumber(port)
end
-- $name, ${name}, ${name ?? default}; \$ is no variable
function utils.resolve_var(template, vars, escape)
  if type(template) ~= "string" or not find(template, "$", 1, true) then return template, nil, 0 end
  local n = 0
  local text, _, err = ngx.re.gsub(template, [[(?<!\\)\$(\{\s*([^}]+?)\s*\}|([\w\.]+))]], function(m)
    local name, default = m[2] or m[3], nil
    local at, to = find(name, "%s*%?%?%s*")
    if at then
      name, default = sub(name, 1, at - 1), sub(name, to + 1)
    end
    local value = vars[name]
    if value == nil then value = default end
    if value == nil then return "" end
    n = n + 1
    return escape and escape(tostring(value)) or tostring(value)
  end, "jo")
  if not text then return nil, err end
  return text, nil, n
end
function utils.resolve_var_with_captures(template, captures)
  if type(template) ~= "string" or not find(template, "$", 1, true) then return template end
  captures = captures or {}
  local text, _, err = ngx.re.gsub(template, [[(?<!\\)\$\{?(\d+)\}?]], function(m) return captures[tonumber(m[1])] or "" end, "jo")
  return text, err
end
-- only what would end the path or is no printable ASCII
function utils.uri_safe_encode(uri)
  return (gsub(uri, "[%z\1-\32#%%?\127-\255]", function(char) return string.format("%%%02X", char:byte()) end))
end
function utils.validate_header_field(name) return not find(name, "[^\33-\126]") and not find(name, ":", 1, true) end
function utils.validate_header_value(value) return type(value) ~= "string" or not find(value, "[%z\1-\31\127-\255]") end
-- fields may be ways like "a.b"
local function each_field(fields, conf, f)
  for _, way in ipairs(fields) do
    local value = conf
    for name in way:gmatch("[^.]+") do
      value = type(value) == "table" and value[name] or nil
    end
    f(way, value)
  end
end
function utils.check_https(fields, conf, plugin)
  each_field(fields, conf, function(field, value)
    for _, one in ipairs(type(value) == "table" and value or { value }) do
      if not find(tostring(one), "^https") then
        core.log.warn("Using ", plugin, " ", field, " with no TLS is a security risk")
      end
    end
  end)
end
function utils.check_tls_bool(fields, conf, plugin)
  each_field(fields, conf, function(field, value)
    if value ~= true and value ~= nil then
      core.log.warn("Keeping ", field, " disabled in ", plugin, " configuration is a security risk")
    end
  end)
end
local function address(text, v6)
  return type(text) == "string" and not find(text, "/", 1, true) and host.ip_valid(text) and (find(text, ":", 1, true) ~= nil) == v6
end
function utils.parse_ipv4(text) return address(text, false) and true or false end
function utils.parse_ipv6(text) return address(type(text) == "string" and gsub(text, "[%[%]]", "") or text, true) and true or false end
local local_conf
function core.config.local_conf()
  local_conf = local_conf or host.local_conf()
  return local_conf
end
function core.id.get() return host.instance_id() end
function core.id.gen_uuid_v4() return host.id() end
function core.ip.create_ip_matcher(list)
  for _, text in ipairs(list) do
    if not host.ip_valid(text) then return nil, "invalid ip address: " .. tostring(text) end
  end
  return { match = function(_, address)
    for _, text in ipairs(list) do
      if host.ip_in(address, text) then return true end
    end
    return false
  end }
end
return core
