-- apisix.consumer: the consumers of the configuration that the request runs with. What is asked for often is kept until they change.
local api = ...
local host, checked = api.host, api.checked
local core, lrucache = require("apisix.core"), require("resty.lrucache")
local lists, found, maps = lrucache.new(64), lrucache.new(4096), setmetatable({}, { __mode = "k" })
local consumer = { version = 0.3 }

local function kept(store, key, make, ...)
  local version = checked(host.consumers_version())
  local known = store:get(key)
  if known and known.version == version then
    return known.value, version
  end
  local value = make(...)
  if value ~= nil then
    store:set(key, { version = version, value = value })
  end
  return value, version
end

-- Everybody with a part in an auth plugin; nil: nobody
local function list(name)
  local nodes = checked(host.consumers(name))
  return #nodes > 0 and { nodes = nodes, len = #nodes, conf_version = checked(host.consumers_version()) } or nil
end

function consumer.plugin(name)
  return (kept(lists, name, list, name))
end
consumer.consumers_conf = consumer.plugin

function consumer.consumers_kv(name, conf, attribute)
  local of_conf = maps[conf]
  if not of_conf then
    of_conf = {}
    maps[conf] = of_conf
  end
  local map = of_conf[attribute]
  if not map then
    map = {}
    for _, one in ipairs(conf.nodes) do
      local value = one.auth_conf[attribute]
      if value ~= nil and map[value] == nil then
        map[value] = one
      end
    end
    of_conf[attribute] = map
  end
  return map
end

-- The nodes are many, and who has found one rarely wants them
local function conf_of(name, version)
  return setmetatable({ conf_version = version }, { __index = function(_, key)
    local whole = (key == "nodes" or key == "len") and consumer.plugin(name)
    return whole and whole[key] or nil
  end })
end

function consumer.find_consumer(name, attribute, value)
  local anybody
  local one, version = kept(found, name .. "\0" .. attribute .. "\0" .. tostring(value), function()
    local it
    it, anybody = checked(host.consumer_find(name, attribute, value))
    return it
  end)
  if not one and not anybody then
    return nil, nil, "Missing related consumer"
  end
  return one, conf_of(name, version)
end

function consumer.attach_consumer(ctx, one, conf)
  ctx.consumer = one
  ctx.consumer_name = one.consumer_name
  ctx.consumer_group_id = one.group_id
  ctx.consumer_ver = conf and conf.conf_version
end

local function named(name)
  local one, version = kept(found, "\0" .. name, function() return (checked(host.consumer_named(name))) end)
  return one, one and { conf_version = version }
end

function consumer.get_anonymous_consumer(name)
  local one, conf = named(name)
  if not one then
    return nil, nil, "failed to get anonymous consumer " .. name
  end
  return one, conf
end

function consumer.get_consumer_by_name(name)
  local one, conf = named(name)
  if not one then
    return nil, nil, "failed to get consumer " .. name
  end
  return one, conf
end

function consumer.consumers()
  local all, version = kept(lists, "", function()
    local values = {}
    for i, one in ipairs(checked(host.consumers())) do
      values[i] = { key = "/consumers/" .. one.username, value = one, modifiedIndex = one.modifiedIndex }
    end
    return values
  end)
  return all, version
end

function consumer.filter_consumers_list(all)
  return all
end

return consumer
