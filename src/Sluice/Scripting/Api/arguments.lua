-- What functions of ngx say of their arguments, and how an error of the host becomes one of Lua.
local api = ...
local host = api.host
local type, error, select, tostring, next = type, error, select, tostring, next
local math_floor = math.floor
local string = api.string
local find, byte, gsub, format = string.find, string.byte, string.gsub, string.format
local FAIL, null = host.FAIL, host.null

-- Host functions answer FAIL and a message instead of raising
local function checked(first, ...)
  if first == FAIL then
    error((...), 3)
  end
  return first, ...
end

local function raising(f)
  return function(...)
    return checked(f(...))
  end
end

-- How many arguments a function was called with; in nginx's various words
local function exactly(count, words, ...)
  local n = select("#", ...)
  if n ~= count then
    error(words .. n, 3)
  end
end

local MANY = 2147483647

-- Raises for a function of ngx what Lua's own functions raise
local function must_be(kind, value, n, name)
  if type(value) ~= kind then
    error("bad argument #" .. n .. " to '" .. name .. "' (" .. kind .. " expected, got " .. type(value) .. ")", 3)
  end
end

local function text_of(value) return type(value) == "string" and value or value and tostring(value) or "" end

-- Text, or a number for it
local function must_be_text(value, n, name)
  if type(value) ~= "string" and type(value) ~= "number" then
    error("bad argument #" .. n .. " to '" .. name .. "' (string expected, got " .. type(value) .. ")", 3)
  end
end

-- A text with what may not stand in a URI shown, and the first such byte; nil: all is well
local function unsafe(text)
  local at = find(text, "[%z\1-\31\127]")
  return at and gsub(text, "[%z\1-\31\127]", function(c) return format("\\x%02X", byte(c)) end), at and format("0x%02x", byte(text, at))
end

-- Puts an array's parts, and those of arrays in it, into out; nil or why not
local function flat(value, out, strict)
  if value == null and not strict then
    out[#out + 1] = "null"
  elseif type(value) ~= "table" then
    if strict and (value == nil or type(value) == "boolean") then
      return "bad data type " .. type(value) .. " found"
    elseif type(value) == "function" or type(value) == "thread" or type(value) == "userdata" then
      return "bad data type " .. type(value) .. " found"
    end
    out[#out + 1] = tostring(value)
  else
    local most = 0
    for key in next, value do
      if type(key) ~= "number" or key < 1 or key ~= math_floor(key) then
        return "non-array table found"
      end
      most = key > most and key or most
    end
    for i = 1, most do
      local wrong = flat(value[i], out, strict)
      if wrong then
        return wrong
      end
    end
  end
end

-- All that is to be printed
local function all_flat(name, out, ...)
  for i = 1, select("#", ...) do
    local value = select(i, ...)
    local wrong = flat(value, out)
    if wrong and type(value) ~= "table" then
      wrong = "string, number, boolean, nil, ngx.null, or array table expected, but got " .. type(value)
    end
    if wrong then
      error("bad argument #" .. i .. " to '" .. name .. "' (" .. wrong .. ")", 3)
    end
  end
  return out
end

api.raising, api.all_flat, api.checked, api.must_be = raising, all_flat, checked, must_be
api.must_be_text, api.unsafe, api.exactly, api.text_of, api.MANY = must_be_text, unsafe, exactly, text_of, MANY
api.flat = flat
