-- Makes the world that scripts live in: takes the dangerous out, puts ngx in, and returns the functions that the host calls.
-- What scripts find is in the files of Api/, one topic each; they share the table api.
local box, host = ...

local function copy(t)
  local made = {}
  for key, value in pairs(t) do
    made[key] = value
  end
  return made
end

local function nothing() end

-- Lua's own functions as they are before the sandbox takes some and scripts can change others
local api = {
  box = box, host = host, nothing = nothing,
  string = copy(string), coroutine = copy(coroutine), getinfo = debug.getinfo, traceback = debug.traceback, io_open = io.open, newproxy = newproxy,
  xpcall = xpcall,
}

local type, error, pairs, ipairs, tostring = type, error, pairs, ipairs, tostring
local setmetatable, unpack, pcall, xpcall = setmetatable, unpack, pcall, xpcall
local concat, byte, gsub = table.concat, string.byte, string.gsub
local raw_loadstring, raw_find = loadstring, string.find
local BEFORE_PROXY = host.phases.BeforeProxy

-- ------------------------------------------------------------------------------------------------------------------- sandbox

local function text_only(chunk, name)
  if type(chunk) == "string" and byte(chunk, 1) == 27 then
    return nil, "attempt to load bytecode"
  end
  local f, err = raw_loadstring(chunk, name)
  -- OpenResty's LuaJIT takes empty statements
  if not f and type(chunk) == "string" and raw_find(err, "near ';'", 1, true) then
    local text = host.without_empty_statements(chunk)
    if text then
      return raw_loadstring(text, name)
    end
  end
  return f, err
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

-- ----------------------------------------------------------------------------------------------------------------------- api

-- In this order: each may use what those before it have put into the table
local topics = {
  "arguments", "context", "threads", "log", "response", "text", "request", "variables", "time", "crypto", "worker", "regex", "shared_dict", "timers",
  "semaphores", "subrequests", "sockets", "json", "tables",
}
for _, topic in ipairs(topics) do
  local chunk, err = raw_loadstring(host.source(topic .. ".lua"), "=" .. topic .. ".lua")
  if not chunk then
    error(err)
  end
  chunk(api)
end
local checked, array_mt, answer, piece_arg, all_flat = api.checked, api.array_mt, api.answer, api.piece_arg, api.all_flat

-- What core.stream.finish has said of the unit that event_filter has before it
local finished
function api.finish(reason)
  if box[2] ~= host.phases.EventFilter then
    error("API disabled in the context of " .. api.contexts[box[2]], 2)
  end
  finished = reason == nil and "complete" or tostring(reason)
end

-- ------------------------------------------------------------------------------------------------------------------- modules

local shipped = {
  "apisix.core", "apisix.plugin", "apisix.consumer", "cjson", "cjson.safe", "resty.http", "resty.string", "resty.lrucache", "net.url", "resty.md5", "resty.sha1", "resty.sha256",
  "resty.random", "ngx.semaphore", "ngx.base64", "ngx.re", "ngx.req", "ngx.resp", "ngx.ssl", "ngx.errlog", "ngx.balancer", "ngx.process", "table.new", "table.clear", "table.nkeys",
  "table.isarray", "bit", "jit", "string", "table", "math", "os", "io", "coroutine", "debug",
}

local loaded = package.loaded
package.path = host.prefix .. "/lua/?.lua"
local preload = package.preload
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

-- the shipped Lua modules are given the same table as the topics
api.ctx_mt, api.known_ctx, api.running_unit = ctx_mt, known_ctx, running_unit
for _, name in ipairs { "resty.http", "resty.string", "resty.lrucache", "net.url", "apisix.core", "apisix.plugin", "apisix.consumer" } do
  preload[name] = function()
    local chunk, err = raw_loadstring(host.source(name .. ".lua"), "=" .. name)
    if not chunk then
      error(err)
    end
    return chunk(api)
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

-- Takes "local function NAME = …" for "local NAME = …": it is no Lua, but guides to event streams print it
local function load_function(text, name)
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

local entries = { array_mt = array_mt, ctx_mt = ctx_mt }
-- What a plugin's functions are called, by the host's numbers
local phases = host.phases
local function_names = { [phases.Rewrite] = "rewrite", [phases.Access] = "access", [phases.BeforeProxy] = "before_proxy",
  [phases.HeaderFilter] = "header_filter", [phases.BodyFilter] = "body_filter", [phases.Log] = "log", [phases.EventFilter] = "event_filter" }

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
      unit.before = text and assert(load_function(text))() or nil
    end
  else
    unit.functions = {}
    for i, text in ipairs { ... } do
      local chunk, err = load_function(text)
      if not chunk then
        return "failed to loadstring: " .. err
      end
      unit.functions[i] = chunk
    end
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
      host.log(ngx.ERR, "meta pre_function:", "pre_function execution for plugin " .. unit.name .. " failed: " .. tostring(err))
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
  local phase_func = plugin and plugin[function_names[box[2]]]
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

local AS_IT_CAME, DROPPED, REWRITTEN = 0, 1, 2

-- What an event_filter wants with what it has returned; of an event that is another its name, id and data
local function wanted(result, name, id)
  local kind = type(result)
  if kind == "nil" then
    return AS_IT_CAME
  elseif result == false then
    return DROPPED
  elseif kind == "string" or kind == "number" then
    return REWRITTEN, name, id, tostring(result)
  elseif kind ~= "table" then
    error("event_filter must return nil, false, a text or an event, not a " .. kind, 0)
  end
  local new_name, new_id, data = result.name, result.id, result.data
  if type(data) ~= "string" and type(data) ~= "number" then
    error("event_filter must return an event whose data is a text, not a " .. type(data), 0)
  end
  return REWRITTEN, new_name ~= nil and tostring(new_name) or nil, new_id ~= nil and tostring(new_id) or nil, tostring(data)
end

-- One unit of a stream: what becomes of it, its name, id and data when it is another, and why the stream ends after it
function entries.event(id, name, event_id, data, raw, n)
  local unit, ctx = units[id], api_ctx()
  finished = nil
  if unit.kind ~= "functions" then
    local plugin = unit.plugin or unit.script or made_of(unit, 1)
    unit.script = not unit.plugin and plugin or nil
    local phase_func = plugin and plugin.event_filter
    if not phase_func then
      return AS_IT_CAME
    end
    local event = { name = name, id = event_id, data = data, raw = raw, n = n }
    local becomes, new_name, new_id, new_data
    if unit.kind == "script" then
      becomes, new_name, new_id, new_data = wanted(phase_func(ctx, event), name, event_id)
    else
      prepare(unit, ctx)
      becomes, new_name, new_id, new_data = wanted(phase_func(unit.conf, ctx, event), name, event_id)
    end
    return becomes, new_name, new_id, new_data, finished
  end
  local becomes = AS_IT_CAME
  local known = unit.known or {}
  unit.known = known
  for i = 1, #unit.functions do
    local func = known[i] or made_of(unit, i)
    if type(func) ~= "function" then
      error("event_filter needs texts that return a function", 0)
    end
    known[i] = func
    local result, new_name, new_id, new_data =
      wanted(func(unit.conf, ctx, { name = name, id = event_id, data = data, raw = raw, n = n }), name, event_id)
    if result == DROPPED then
      return DROPPED, nil, nil, nil, finished
    elseif result == REWRITTEN then
      becomes, name, event_id, data = REWRITTEN, new_name, new_id, new_data
    end
  end
  return becomes, name, event_id, data, finished
end

-- A plugin's own Lua, the first function of its unit, with what the plugin gives it: texts or nil in, texts or nil out
function entries.apply(id, ...)
  local unit = units[id]
  return unit.functions[1](unit, api_ctx(), ...)
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

entries.timer = api.run_timer

-- nil, or what is wrong with a function's text
function entries.check(text, whole)
  local chunk, err = load_function(text)
  if not chunk then
    return "failed to loadstring: " .. err
  end
  if whole then
    return nil
  end
  local ok, made = pcall(chunk)
  if ok and type(made) ~= "function" then
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

entries.adopt = api.adopt

-- What a script makes of a variable that it has registered, perhaps in another state
function entries.variable(name, plugin)
  local ctx = api_ctx()
  if plugin ~= "" and not (api.registered and api.registered[name]) then
    require("apisix.plugin").get(plugin)
  end
  local value = api.registered[name] and ctx.var[name]
  return value ~= nil and tostring(value) or nil
end

return entries