-- Coroutines and light threads: a wait inside a coroutine that a script made goes through to the host, and the host's result back in.
local api = ...
local host, box = api.host, api.box
local ngx = ngx
local type, error, select, setmetatable, unpack, xpcall = type, error, select, setmetatable, unpack, api.xpcall
local string = api.string
local gsub = string.gsub
local co_create, co_resume, co_yield, co_status, co_running = api.coroutine.create, api.coroutine.resume, api.coroutine.yield, api.coroutine.status, api.coroutine.running
local traceback = api.traceback
local WAIT = host.WAIT
local can_wait, disabled, kept_of, request_table = api.can_wait, api.disabled, api.kept_of, api.request_table
local wait = api.wait

local waits = host.waits
local SPAWN, JOIN = waits.Spawn, waits.Join
local TIMER, INIT = host.phases.Timer, host.phases.Init

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
