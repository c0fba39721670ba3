-- ngx.log, print and ngx.errlog.
local api = ...
local host = api.host
local ngx = ngx
local type, error, select, tostring, tonumber, getmetatable = type, error, select, tostring, tonumber, getmetatable
local concat = table.concat
local string = api.string
local gsub = string.gsub
local getinfo = api.getinfo
local null = host.null
local preload = package.preload

-- The caller as nginx writes it: the file without its directory, the line, the function's name if it has one
local function place(level)
  local info = getinfo(level + 1, "Snl")
  if not info then
    return "?:"
  end
  local file = gsub(info.short_src, "^.*/", "")
  return file .. ":" .. info.currentline .. ":" .. (info.namewhat ~= "" and info.what == "Lua" and " " .. info.name .. "():" or "")
end

local function shown(...)
  local parts = { ... }
  for i = 1, select("#", ...) do
    local value = parts[i]
    local kind = type(value)
    if kind == "table" then
      local mt = getmetatable(value)
      if not (type(mt) == "table" and mt.__tostring) then
        error("bad argument #" .. i .. " to 'log' (expected table to have __tostring metamethod)", 3)
      end
    elseif kind == "function" or kind == "thread" or kind == "userdata" and value ~= null then
      error("bad argument #" .. i .. " to 'log' (string, number, boolean, or nil expected, got " .. kind .. ")", 3)
    end
    parts[i] = value == null and "null" or tostring(value)
  end
  return concat(parts)
end

function ngx.log(...)
  local level = tonumber((...))
  if not level then
    error("bad argument #1 to 'log' (number expected, got " .. (select("#", ...) == 0 and "no value" or type((...))) .. ")", 2)
  elseif level < 0 or level > 8 then
    error("bad argument #1 to 'log' (bad log level: " .. level .. ")", 2)
  end
  host.log(level, place(2), shown(select(2, ...)))
end

function print(...)
  host.log(6, place(2), shown(...))
end

preload["ngx.errlog"] = function() return { raw_log = function(level, text) host.log(level, place(2), text) end, get_sys_filter_level = function() return 8 end } end

api.place, api.shown = place, shown
