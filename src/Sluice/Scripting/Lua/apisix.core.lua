-- The part of apisix.core that plugins use.
local inner = ...
local host, checked, nothing, io_open = inner.host, inner.checked, inner.nothing, inner.io_open
local ngx, type, pairs, ipairs, select, tostring, tonumber, setmetatable = ngx, type, pairs, ipairs, select, tostring, tonumber, setmetatable
local concat, insert, remove, sort = table.concat, table.insert, table.remove, table.sort
local find, sub, gsub, lower = string.find, string.sub, string.gsub, string.lower

local core = { version = { VERSION = "3.18.0" }, empty_tab = {}, id = {}, ip = {}, log = {}, json = {}, table = {}, string = {}, request = {}, response = {},
  ctx = {}, utils = {}, schema = {}, lrucache = {}, timer = {}, resolver = {}, config = { type = "sluice" }, etcd = {}, os = {}, env = {}, event = { push = nothing, register = nothing, CONST = {} } }
core.version.major, core.version.minor = 3, 18

-- Logs
local levels = { stderr = 0, emerg = 1, alert = 2, crit = 3, error = 4, warn = 5, notice = 6, info = 7, debug = 8 }
for name, level in pairs(levels) do
  core.log[name] = function(...)
    host.log(level, inner.place(2), inner.shown(...))
  end
end
core.log.delay_exec = function(f, ...)
  return setmetatable({ arguments = { n = select("#", ...), ... } }, { __tostring = function(self) return tostring(f(unpack(self.arguments, 1, self.arguments.n))) end })
end
core.log.new = function() return core.log end
core.log.set_level = nothing

-- JSON
local json = core.json
json.array_mt = inner.array_mt
json.null = ngx.null
local function plain(value, seen)
  if type(value) == "table" then
    if seen[value] then
      return "cycle"
    end
    seen[value] = true
    local copy = {}
    for key, item in pairs(value) do
      copy[type(key) == "string" and key or type(key) == "number" and key or tostring(key)] = plain(item, seen)
    end
    seen[value] = nil
    return setmetatable(copy, getmetatable(value))
  elseif type(value) == "function" or type(value) == "thread" or (type(value) == "userdata" and value ~= ngx.null) then
    return tostring(value)
  end
  return value
end
function json.encode(value, force)
  if force then
    value = plain(value, {})
  end
  return checked(host.json_encode(value))
end
function json.decode(text)
  if type(text) ~= "string" then
    return nil, "expect a string"
  end
  return host.json_decode(text, true)
end
json.stably_encode = function(value)
  local function stable(v)
    if type(v) ~= "table" or getmetatable(v) == inner.array_mt or #v > 0 then
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
tab.insert, tab.concat, tab.sort, tab.remove = insert, concat, sort, remove
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
  return select("#", ...)
end
function tab.array_find(t, value)
  if type(t) ~= "table" then return nil end
  for i, item in ipairs(t) do
    if item == value then return i end
  end
end
function tab.try_read_attr(t, ...)
  for i = 1, select("#", ...) do
    if type(t) ~= "table" then return nil end
    t = t[select(i, ...)]
  end
  return t
end
local function deepcopy(value, seen)
  if type(value) ~= "table" then return value end
  if seen[value] then return seen[value] end
  local copy = {}
  seen[value] = copy
  for key, item in pairs(value) do copy[deepcopy(key, seen)] = deepcopy(item, seen) end
  return setmetatable(copy, getmetatable(value))
end
function tab.deepcopy(value) return deepcopy(value, {}) end
tab.clone = function(t)
  local copy = {}
  for key, value in pairs(t) do copy[key] = value end
  return setmetatable(copy, getmetatable(t))
end
local function merge(into, from)
  for key, value in pairs(from) do
    if type(value) == "table" and type(into[key]) == "table" then merge(into[key], value) else into[key] = value end
  end
  return into
end
tab.merge = merge
local function patch(target, change)
  if type(change) ~= "table" then return change end
  if type(target) ~= "table" then target = {} end
  for key, value in pairs(change) do
    if value == ngx.null then target[key] = nil else target[key] = patch(target[key], value) end
  end
  return target
end
tab.patch = patch
function tab.deep_eq(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then return a == b end
  for key, value in pairs(a) do if not tab.deep_eq(value, b[key]) then return false end end
  for key in pairs(b) do if a[key] == nil then return false end end
  return true
end
function tab.pick(t, keys)
  local picked = {}
  for key in pairs(keys) do picked[key] = t[key] end
  return picked
end
local pools = {}
function tab.pool_fetch(name) local p = pools[name] return p and remove(p) or {} end
function tab.fetch(name) return tab.pool_fetch(name) end
tab.release = nothing
function tab.array_to_map(list)
  local map = {}
  for _, value in ipairs(list) do map[value] = true end
  return map
end

-- Strings
local str = core.string
setmetatable(str, { __index = string })
function str.find(text, what, from) return find(text, what, from, true) end
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
end
function str.compress_script(text) return text end
function str.trim(text) return (gsub(text, "^%s*(.-)%s*$", "%1")) end

-- Contexts
local host_var, host_set_var = inner.raising(host.var), inner.raising(host.set_var)
local var_mt = {
  __index = function(self, key)
    if type(key) ~= "string" then
      error("invalid argument, expect string value", 2)
    end
    if key == "_ctx" then return nil end
    return host_var(key)
  end,
  __newindex = function(_, key, value)
    if key == "upstream_uri" or key == "args" or key == "uri" then
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
local ctx_mt = {
  __index = function(_, key)
    local name = lazily[key]
    return name and host_var(name) or nil
  end,
}
function core.ctx.new() return setmetatable({ var = shared_var, conf_type = "route" }, ctx_mt) end
function core.ctx.set_vars_meta(ctx) ctx.var = shared_var end
core.ctx.release_vars, core.ctx.register_var = nothing, function() end

-- Requests
local req = core.request
local function ctx_of(ctx)
  return ctx or inner.context().api_ctx
end
function req.headers() return ngx.req.get_headers(0) end
function req.header(ctx, name)
  if type(ctx) == "string" then name = ctx end
  local value = ngx.req.get_headers(0)[name]
  return type(value) == "table" and value[1] or value
end
function req.set_header(ctx, name, value)
  if type(ctx) == "string" then name, value = ctx, name end
  ngx.req.set_header(name, value)
end
function req.add_header(ctx, name, value)
  if type(ctx) == "string" then name, value = ctx, name end
  checked(host.req_set(name, tostring(value), true))
end
function req.get_ip(ctx) return host_var("realip_remote_addr") end
function req.get_remote_client_ip(ctx) return host_var("remote_addr") end
function req.get_remote_client_port(ctx) return tonumber(host_var("remote_port")) end
function req.get_uri_args(ctx) return ngx.req.get_uri_args(0) end
function req.set_uri_args(ctx, args) ngx.req.set_uri_args(args) end
function req.get_post_args(ctx)
  ngx.req.read_body()
  return ngx.req.get_post_args(0)
end
function req.get_body(max, ctx)
  if type(max) == "table" then max = nil end
  ngx.req.read_body()
  local body = ngx.req.get_body_data()
  local name = not body and ngx.req.get_body_file()
  if name then
    local file, err = io_open(name, "rb")
    if not file then
      return nil, err
    end
    local size = file:seek("end")
    if not (max and size > max) then
      file:seek("set")
      body = file:read("*a")
    end
    file:close()
    if not body then
      return nil, "request size " .. size .. " is greater than the maximum size " .. max .. " allowed"
    end
  end
  if body and max and #body > max then
    return nil, "request size " .. #body .. " is greater than the maximum size " .. max .. " allowed"
  end
  return body
end
function req.get_json_request_body_table()
  local body, err = req.get_body()
  if not body then
    return nil, { message = "could not get body: " .. (err or "request body is empty") }
  end
  local value, why = json.decode(body)
  if not value then
    return nil, { message = "could not parse JSON request body: " .. why }
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
    return inner.answer(nil, code)
  end
  return inner.answer(code, body)
end
function resp.say(...) ngx.say(...) end
function resp.set_header(name, value, ...)
  if type(name) == "table" then
    for key, one in pairs(name) do ngx.header[key] = one end
    return
  end
  ngx.header[name] = value
  for i = 1, select("#", ...), 2 do
    ngx.header[(select(i, ...))] = (select(i + 1, ...))
  end
end
function resp.add_header(name, value) ngx.resp.add_header(name, value) end
function resp.get_header(name) return ngx.header[name] end
function resp.get_headers() return ngx.resp.get_headers() end
function resp.get_response_source(ctx) return host_var("upstream_addr") and "upstream" or "apisix" end
function resp.get_upstream_status(ctx) return tonumber(host_var("upstream_status")) end
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
  if not held then
    held = { n = 0 }
    ctx._held[key] = held
  end
  if type(chunk) == "string" and chunk ~= "" then
    held[#held + 1] = chunk
    held.n = held.n + #chunk
    if max and held.n > max then
      ctx._held[key] = nil
      return concat(held)
    end
  end
  if last then
    ctx._held[key] = nil
    return concat(held)
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
core.schema.valid = function() return true end
core.schema.TYPE_CONSUMER, core.schema.TYPE_METADATA = 1, 2

-- Caches
local lrucache = require("resty.lrucache")
local function cache(options)
  options = options or {}
  local store, ttl = lrucache.new(options.count or 1024), options.ttl or 300
  return function(key, version, create, ...)
    local entry = store:get(key)
    if entry and entry.version == version then
      return entry.value
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
core.lrucache.plugin_ctx = function(lru, ctx, extra, create, ...)
  return lru(tostring(ctx.conf_id or ctx.route_id) .. "#" .. tostring(extra), nil, create, ...)
end
core.lrucache.plugin_ctx_id = function(ctx, extra) return tostring(ctx.route_id) .. "#" .. tostring(extra) end

-- Timers, names, files
core.sleep = ngx.sleep
core.timer.new = function(name, f, options)
  local timer = { name = name }
  local function run(premature)
    if premature or timer.stopped then return end
    local ok, err = pcall(f, timer)
    if not ok then core.log.error("failed to run the timer: ", name, " err: ", err) end
    if not timer.stopped then ngx.timer.at(options and options.check_interval or 1, run) end
  end
  timer.cancel = function() timer.stopped = true end
  local ok, err = ngx.timer.at(0, run)
  return ok and timer or nil, err
end
function core.resolver.parse_domain(name) return inner.wait(inner.RESOLVE, name) end
core.utils.dns_parse = core.resolver.parse_domain
function core.utils.uuid() return host.id() end
function core.utils.get_seed_from_urandom() return ngx.crc32_long(host.random(8)) end
function core.utils.gethostname() return host_var("hostname") end
function core.utils.split_uri(uri) return ngx.re.match(uri, "^([^?]*)\\??(.*)$") end
function core.utils.parse_addr(addr)
  local name, port = addr:match("^(.-):(%d+)$")
  return name or addr, tonumber(port) or nil
end
function core.utils.resolve_var(template, vars)
  if type(template) ~= "string" or not find(template, "$", 1, true) then return template, nil, 0 end
  local n = 0
  local text = gsub(template, "%$({?)([%w_]+)(}?)", function(_, name)
    local value = vars[name]
    n = n + 1
    return value ~= nil and tostring(value) or ""
  end)
  return text, nil, n
end
core.utils.uri_safe_encode = ngx.escape_uri
core.utils.validate_header_field = function(name) return type(name) == "string" and name ~= "" and not find(name, "[%c%s:]") end
function core.config.local_conf() return host.local_conf() end
function core.id.get() return host.id() end
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
