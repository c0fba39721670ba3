-- Shared dictionaries: ngx.shared.
local api = ...
local host = api.host
local ngx = ngx
local type, error, pairs, ipairs, select, tostring, tonumber, setmetatable, rawget, rawset = type, error, pairs, ipairs, select, tostring, tonumber, setmetatable, rawget, rawset
local must_be, raising = api.must_be, api.raising

local dict_get, dict_store, dict_incr, dict_op = raising(host.dict_get), raising(host.dict_store), raising(host.dict_incr), raising(host.dict_op)
local modes = host.store_modes
local SET, ADD, REPLACE = modes.Set, modes.Add, modes.Replace

local function zone_of(self)
  return type(self) == "table" and rawget(self, "name") or error('bad "zone" argument', 3)
end

-- The key as text; or nil and what is wrong with it
local function key_of(key)
  if key == nil then
    return nil, "nil key"
  end
  key = tostring(key)
  if key == "" then
    return nil, "empty key"
  elseif #key > 65535 then
    return nil, "key too long"
  end
  return key
end

local function stored(self, mode, safe, key, value, seconds, flags)
  local zone = zone_of(self)
  local text, err = key_of(key)
  if not text then
    return nil, err
  end
  if (seconds or 0) < 0 then
    error('bad "exptime" argument', 3)
  end
  local kind = type(value)
  if kind == "table" or kind == "function" or kind == "userdata" or kind == "thread" then
    return nil, "bad value type"
  elseif value == nil and mode ~= SET then
    return false, "attempt to add or replace nil values", false
  end
  return dict_store(zone, mode, safe, text, value, seconds or 0, flags or 0)
end

local dict = {}
dict.__index = dict
function dict:get(key)
  local zone = zone_of(self)
  local text, err = key_of(key)
  if not text then
    return nil, err
  end
  local value, flags = dict_get(zone, text)
  if flags ~= nil then
    return value, flags
  end
  return value
end
function dict:get_stale(key)
  local zone = zone_of(self)
  local text, err = key_of(key)
  if not text then
    return nil, err
  end
  local value, flags, stale = dict_get(zone, text, true)
  if value ~= nil then
    return value, flags, stale
  elseif flags then
    return nil, flags
  end
  return nil
end
function dict:set(key, value, seconds, flags) return stored(self, SET, false, key, value, seconds, flags) end
function dict:safe_set(key, value, seconds, flags) return stored(self, SET, true, key, value, seconds, flags) end
function dict:add(key, value, seconds, flags) return stored(self, ADD, false, key, value, seconds, flags) end
function dict:safe_add(key, value, seconds, flags) return stored(self, ADD, true, key, value, seconds, flags) end
function dict:replace(key, value, seconds, flags) return stored(self, REPLACE, false, key, value, seconds, flags) end
function dict:delete(key) return stored(self, SET, false, key) end

local function number_or_nil(value, name)
  if value ~= nil and not tonumber(value) then
    error("bad " .. name .. " arg: number expected, got " .. type(value), 3)
  end
  return tonumber(value)
end
function dict:incr(key, by, initial, seconds)
  local zone = zone_of(self)
  local text, err = key_of(key)
  if not text then
    return nil, err
  end
  local amount, first, ttl = tonumber(by), number_or_nil(initial, "init"), number_or_nil(seconds, "init_ttl")
  if not amount then
    error("cannot convert 'nil' to 'double'", 2)
  elseif ttl and ttl < 0 then
    error('bad "init_ttl" argument', 2)
  elseif ttl and not first then
    error('must provide "init" when providing "init_ttl"', 2)
  end
  local value, forcible
  value, err, forcible = dict_incr(zone, text, amount, first, ttl or 0)
  if not value then
    return nil, err
  elseif first then
    return value, nil, forcible
  end
  return value
end

-- Of lists: how many arguments there must be
for operation, n in pairs { lpush = 3, rpush = 3, lpop = 2, rpop = 2, llen = 2 } do
  dict[operation] = function(...)
    if select("#", ...) ~= n then
      error("expecting " .. n .. " arguments, but only seen " .. select("#", ...), 2)
    end
    local self, key, value = ...
    local zone = zone_of(self)
    local text, err = key_of(key)
    if not text then
      return nil, err
    elseif n == 3 and type(value) ~= "string" and type(value) ~= "number" then
      return nil, "bad value type"
    end
    local result
    result, err = dict_op(zone, operation, text, value)
    if err then
      return nil, err
    end
    return result
  end
end
function dict:ttl(key)
  local zone = zone_of(self)
  local text, err = key_of(key)
  if not text then
    return nil, err
  end
  return dict_op(zone, "ttl", text)
end
function dict:expire(key, exptime)
  local zone = zone_of(self)
  if not exptime then
    error('bad "exptime" argument', 2)
  end
  local text, err = key_of(key)
  if not text then
    return nil, err
  end
  local found, missing = dict_op(zone, "expire", text, exptime + 0)
  if not found then
    return nil, missing
  end
  return true
end
for _, operation in ipairs { "flush_expired", "get_keys" } do
  dict[operation] = function(...)
    local self, max = ...
    if select("#", ...) > 2 then
      error("expecting 1 or 2 argument(s), but saw " .. select("#", ...), 2)
    elseif max ~= nil and not tonumber(max) then
      must_be("number", max, 1, operation)
    end
    return dict_op(zone_of(self), operation, max)
  end
end
function dict:flush_all() dict_op(zone_of(self), "flush_all") end
function dict:capacity() return dict_op(zone_of(self), "capacity") end
function dict:free_space() return dict_op(zone_of(self), "free_space") end

ngx.shared = setmetatable({}, {
  __index = function(shared, name)
    if not host.dict(name) then
      return nil
    end
    local made = setmetatable({ name = name }, dict)
    rawset(shared, name, made)
    return made
  end,
})
