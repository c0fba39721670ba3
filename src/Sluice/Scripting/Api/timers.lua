-- ngx.timer.
local api = ...
local host = api.host
local ngx = ngx
local type, error, select, tonumber, unpack = type, error, select, tonumber, unpack
local request_table = api.request_table

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

-- Runs what a timer holds
function api.run_timer(id, premature)
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
