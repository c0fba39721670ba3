-- ngx.semaphore.
local api = ...
local host, box = api.host, api.box
local error, tonumber, setmetatable, getmetatable = error, tonumber, setmetatable, getmetatable
local new_userdata = api.newproxy
local can_wait, contexts, wait = api.can_wait, api.contexts, api.wait
local preload = package.preload

local SEMAPHORE = host.waits.Semaphore

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

preload["ngx.semaphore"] = function() return semaphore end
