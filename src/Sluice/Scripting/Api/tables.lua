-- LuaJIT's and OpenResty's additions to table.
local api = ...
local type, pairs = type, pairs
local math_floor = math.floor
local preload = package.preload

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

preload["table.new"] = function() return table_new end
preload["table.clear"] = function() return table_clear end
preload["table.nkeys"] = function() return nkeys end
preload["table.isarray"] = function() return isarray end
