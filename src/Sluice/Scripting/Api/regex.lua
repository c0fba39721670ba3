-- Regular expressions: ngx.re.
local api = ...
local host = api.host
local ngx = ngx
local type, error, pairs, ipairs, tostring, tonumber = type, error, pairs, ipairs, tostring, tonumber
local concat = table.concat
local string = api.string
local sub, find, byte, match = string.sub, string.find, string.byte, string.match
local nothing = api.nothing
local raising = api.raising
local preload = package.preload

local host_regex, host_regex_check = raising(host.regex), raising(host.regex_check)

-- As resty.core says it
local function measurable(value, name)
  if type(value) ~= "string" then
    error("attempt to get length of local '" .. name .. "' (a " .. type(value) .. " value)", 4)
  end
end

local function regex(subject, pattern, options, from, nth)
  measurable(pattern, "regex")
  if options ~= nil then
    measurable(options, "opts")
  end
  return host_regex(subject, pattern, options, from, nth)
end

local function re_match(subject, pattern, options, ctx, result)
  local from, to, captures = regex(tostring(subject), pattern, options, ctx and ctx.pos or 1)
  if not from then
    if from == false then
      return nil, to
    end
    return nil
  end
  if ctx then
    ctx.pos = to + 1
  end
  if result then
    for key, value in pairs(captures) do
      result[key] = value
    end
    return result
  end
  return captures
end

-- How many bytes one character has
local function character(text, at, options)
  local first = options and find(options, "[uU]") and byte(text, at) or 0
  return first >= 240 and 4 or first >= 224 and 3 or first >= 192 and 2 or 1
end

-- The texts and the numbers of groups that a replacement is made of; nil: it is malformed
local function template_of(text)
  local parts, position = {}, 1
  while true do
    local dollar = find(text, "$", position, true)
    if not dollar then
      parts[#parts + 1] = sub(text, position)
      return parts
    end
    parts[#parts + 1] = sub(text, position, dollar - 1)
    local rest = sub(text, dollar + 1)
    local written, number = match(rest, "^((%d+))")
    if not written then
      written, number = match(rest, "^(%{(%d+)%})")
    end
    if written then
      parts[#parts + 1] = tonumber(number)
    elseif sub(rest, 1, 1) == "$" then
      written = "$"
      parts[#parts + 1] = "$"
    else
      return nil
    end
    position = dollar + 1 + #written
  end
end

local function expand(parts, captures)
  local out = {}
  for i, part in ipairs(parts) do
    out[i] = type(part) == "string" and part or captures[part] or ""
  end
  return concat(out)
end

local function substitute(subject, pattern, replacement, options, all)
  local out, count, position = {}, 0, 1
  subject = tostring(subject)
  local template = type(replacement) ~= "function" and template_of(tostring(replacement))
  while position <= #subject + 1 do
    local from, to, captures = regex(subject, pattern, options, position)
    if from == false then
      return nil, nil, to
    elseif template == nil then
      return nil, nil, "failed to compile the replacement template"
    elseif not from then
      break
    end
    count = count + 1
    out[#out + 1] = sub(subject, position, from - 1)
    out[#out + 1] = template and expand(template, captures) or tostring(replacement(captures))
    if to < from then
      local after = from + character(subject, from, options)
      out[#out + 1] = sub(subject, from, after - 1)
      position = after
    else
      position = to + 1
    end
    if not all then
      break
    end
  end
  if count == 0 then
    return subject, 0
  end
  out[#out + 1] = sub(subject, position)
  return concat(out), count
end

ngx.re = {
  match = re_match,
  find = function(subject, pattern, options, ctx, nth)
    local from, to, _, nth_from, nth_to = regex(tostring(subject), pattern, options, ctx and ctx.pos or 1, nth)
    if not from then
      if from == false then
        return nil, nil, to
      end
      return nil
    end
    if nth_from == false then
      return nil, nil, "nth out of bound"
    end
    if ctx then
      ctx.pos = to + 1
    end
    if nth and nth > 0 then
      return nth_from, nth_to
    end
    return from, to
  end,
  gmatch = function(subject, pattern, options)
    measurable(pattern, "regex")
    local wrong = host_regex_check(pattern, options)
    if wrong then
      return nil, wrong
    end
    local position = 1
    subject = tostring(subject)
    return function()
      if position > #subject + 1 then
        return nil
      end
      local from, to, captures = regex(subject, pattern, options, position)
      if not from then
        position = #subject + 2
        if from == false then
          return nil, to
        end
        return nil
      end
      position = to < from and from + character(subject, from, options) or to + 1
      return captures
    end
  end,
  sub = function(subject, pattern, replacement, options)
    return substitute(subject, pattern, replacement, options, false)
  end,
  gsub = function(subject, pattern, replacement, options)
    return substitute(subject, pattern, replacement, options, true)
  end,
}

preload["ngx.re"] = function()
  return { opt = nothing, split = function(subject, pattern, options, ctx, max, result)
    local start = ctx and ctx.pos or 1
    local out, position, search, fields = {}, start, start, 1
    local limited = max and max > 0
    while not limited or fields < max do
      local from, to, captures = regex(subject, pattern, options, search)
      if from == false then
        if search == start and start > #subject then
          return {}
        end
        return nil, to
      end
      if not from or (to < from and from > #subject) then break end
      search = to < from and from + character(subject, from, options) or to + 1
      if to >= from or from > position then
        out[#out + 1] = sub(subject, position, from - 1)
        for i = 1, #captures do
          if captures[i] then out[#out + 1] = captures[i] end
        end
        fields, position = fields + 1, to + 1
      end
    end
    out[#out + 1] = sub(subject, position)
    while not limited and out[#out] == "" do
      out[#out] = nil
    end
    if result then
      for i = 1, #out + 1 do
        result[i] = out[i]
      end
    end
    return result or out
  end }
end
