-- Custom plugins in Lua: files apisix/plugins/NAME.lua on the Lua path.
local api = ...
local host = api.host
local core = require("apisix.core")
local plugins, metadata = {}, {}
local plugin = {}
local phases = { "rewrite", "access", "before_proxy", "header_filter", "body_filter", "event_filter", "log" }

-- Once per state. Nil, or why it cannot be loaded
local function load(name)
  local ok, found = pcall(require, "apisix.plugins." .. name)
  if not ok then
    return found
  end
  if type(found) ~= "table" then
    return "the file of plugin " .. name .. " returns no table"
  end
  for _, field in ipairs { "priority", "version" } do
    if type(found[field]) ~= "number" then
      return "plugin [" .. name .. "] misses field: " .. field
    end
  end
  if found.name and found.name ~= name then
    return "plugin [" .. name .. "] calls itself " .. tostring(found.name)
  end
  if type(found.init) == "function" then
    local fine, err = pcall(found.init)
    if not fine then
      return "init of plugin [" .. name .. "]: " .. tostring(err)
    end
  end
  plugins[name] = found
end

local function loaded(name)
  if plugins[name] then
    return nil
  end
  local outer = api.loading
  api.loading = name
  local err = load(name)
  api.loading = outer
  if err then
    package.loaded["apisix.plugins." .. name] = nil
  end
  return err
end

-- What the host needs to know of a plugin, as JSON; or nil and why it cannot be loaded
function plugin.load(name)
  local err = loaded(name)
  if err then
    return nil, err
  end
  local found, has = plugins[name], {}
  for _, phase in ipairs(phases) do
    if type(found[phase]) == "function" then
      has[#has + 1] = phase
    end
  end
  return host.json_encode({
    priority = found.priority, version = found.version, auth = found.type == "auth", phases = setmetatable(has, api.array_mt),
    schema = found.schema or { type = "object" }, consumer_schema = found.consumer_schema, metadata_schema = found.metadata_schema,
  })
end

function plugin.get(name)
  loaded(name)
  return plugins[name]
end

-- nil, or the error; and the configuration with its defaults
function plugin.check(name, kind, text)
  local found, conf = plugin.get(name), host.json_decode(text, true)
  if not found then
    return "plugin is not loaded"
  end
  if found.check_schema then
    local ok, err = found.check_schema(conf, kind ~= 0 and kind or nil)
    if not ok then
      return tostring(err)
    end
  end
end

-- Fills in what check_schema adds, which plugins rely on
function plugin.prepare(name, conf)
  local found = plugins[name]
  if found and found.check_schema then
    pcall(found.check_schema, conf)
  end
end

function plugin.set_metadata(name, text)
  metadata[name] = text and { value = host.json_decode(text, true) } or nil
end

function plugin.plugin_metadata(name)
  return metadata[name]
end

function plugin.plugin_attr(name)
  local conf = core.config.local_conf()
  return conf and conf.plugin_attr and conf.plugin_attr[name]
end

function plugin.destroy()
  for name, found in pairs(plugins) do
    if type(found.destroy) == "function" then
      local ok, err = pcall(found.destroy)
      if not ok then
        core.log.error("destroy of plugin [", name, "]: ", err)
      end
    end
  end
end

-- Another number when the configuration is another
local versions = setmetatable({}, { __mode = "k" })
function plugin.set_conf_version(conf, version) versions[conf] = version end
function plugin.conf_version(conf) return versions[conf] end

return plugin
