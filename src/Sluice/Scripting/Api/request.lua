-- The request: ngx.req.
local api = ...
local host, box = api.host, api.box
local ngx = ngx
local type, error, pairs, select, tostring, tonumber = type, error, pairs, select, tostring, tonumber
local concat, insert = table.concat, table.insert
local co_yield = api.coroutine.yield
local WAIT = host.WAIT
local METHODS, checked, disabled, exactly, headers_of = api.METHODS, api.checked, api.disabled, api.exactly, api.headers_of
local host_is_subrequest, kept_of, must_be = api.host_is_subrequest, api.kept_of, api.must_be
local must_be_text, raising, request_table, unsafe = api.must_be_text, api.raising, api.request_table, api.unsafe
local wait = api.wait
local preload = package.preload

local waits, phases = host.waits, host.phases
local EXIT, READ_BODY = waits.Exit, waits.ReadBody
local REWRITE, BEFORE_PROXY = phases.Rewrite, phases.BeforeProxy

local host_args, host_req_set = raising(host.args), raising(host.req_set)

ngx.req = {
  get_method = raising(host.method),
  set_method = function(method)
    checked(host.set_method(METHODS[method] or tostring(method)))
  end,
  get_headers = function(max, raw)
    local headers, more = checked(host.req_headers(max, raw))
    return headers_of(headers, more, raw)
  end,
  set_header = function(name, value)
    if name == nil then
      error("bad 'name' argument: string expected, got nil", 2)
    end
    if value ~= nil and type(value) ~= "table" then
      value = tostring(value)
    end
    host_req_set(tostring(name), value ~= "" and value or nil)
  end,
  clear_header = function(name)
    host_req_set(tostring(name), nil)
  end,
  get_uri_args = function(max, into)
    local args, more = ngx.decode_args(host_args(), max)
    if into then
      for key in pairs(into) do
        into[key] = nil
      end
      for key, value in pairs(args) do
        into[key] = value
      end
      args = into
    end
    if more then
      return args, more
    end
    return args
  end,
  set_uri_args = function(...)
    local args = ...
    if select("#", ...) ~= 1 then
      error("expecting 1 argument but seen " .. select("#", ...), 2)
    elseif type(args) ~= "string" and type(args) ~= "number" and type(args) ~= "table" then
      error("bad argument #1 to 'set_uri_args' (string, number, or table expected, but got " .. type(args) .. ")", 2)
    end
    request_table().args_set = true
    checked(host.set_args(type(args) == "table" and ngx.encode_args(args) or tostring(args)))
  end,
  -- jump: the request is matched anew
  set_uri = function(...)
    local n, uri, jump, binary = select("#", ...), ...
    if n < 1 or n > 3 then
      error("expecting 1, 2 or 3 arguments but seen " .. n, 2)
    end
    must_be_text(uri, 1, "set_uri")
    uri = tostring(uri)
    if uri == "" then
      error("attempt to use zero-length uri", 2)
    end
    if n > 1 then
      must_be("boolean", jump, 2, "set_uri")
    end
    local seen, first = unsafe(uri)
    if seen and not binary then
      error('unsafe byte "' .. first .. '" in uri "' .. seen .. "\" (maybe you want to set the 'binary' argument?)", 2)
    end
    if jump and box[2] ~= REWRITE then
      disabled()
    end
    checked(host.set_uri(uri))
    request_table().internal = true
    if jump then
      box[3] = nil
      return co_yield(WAIT, EXIT, 0, true)
    end
  end,
  read_body = function(...)
    exactly(0, "expecting 0 arguments but seen ", ...)
    if box[2] > BEFORE_PROXY then
      disabled()
    end
    wait(READ_BODY)
  end,
  discard_body = function()
    host_args() -- there is a request
    -- when the answer is on its way, what still comes is thrown away anyhow
    if box[2] > BEFORE_PROXY then
      return
    end
    wait(READ_BODY)
    checked(host.set_body(""))
  end,
  get_body_data = raising(host.body),
  get_body_file = raising(host.body_file),
  get_post_args = function(max)
    if max ~= nil and not tonumber(max) then
      must_be("number", max, 1, "get_post_args")
    end
    if not checked(host.body_known()) then
      error("no request body found; maybe you should turn on lua_need_request_body?", 2)
    end
    if checked(host.body_file()) then
      return nil, "request body in temp file not supported"
    end
    return ngx.decode_args(checked(host.body()) or "", max)
  end,
  set_body_data = function(...)
    exactly(1, "expecting 1 arguments but seen ", ...)
    local data = ...
    must_be_text(data, 1, "set_body_data")
    if not checked(host.body_known()) then
      error("request body not read yet", 2)
    end
    checked(host.set_body(data))
  end,
  init_body = function(size)
    if size ~= nil and not tonumber(size) then
      must_be("number", size, 1, "init_body")
    elseif size and tonumber(size) < 0 then
      error("bad size argument: " .. size, 2)
    end
    if not checked(host.body_known()) then
      error("request body not read yet", 2)
    end
    request_table().new_body = {}
  end,
  append_body = function(...)
    exactly(1, "expecting 1 arguments but seen ", ...)
    local data = ...
    must_be_text(data, 1, "append_body")
    insert(kept_of("new_body") or error("request_body not initialized", 2), data)
  end,
  finish_body = function()
    checked(host.set_body(concat(kept_of("new_body") or error("request_body not initialized", 2))))
  end,
  start_time = raising(host.start_time),
  http_version = raising(host.http_version),
  raw_header = raising(host.raw_header),
  is_internal = function()
    host_args() -- there is a request
    return kept_of("internal") or host_is_subrequest()
  end,
}

preload["ngx.req"] = function()
  return { add_header = function(name, value)
    if name == nil then
      error("bad 'name' argument: string expected, got nil", 2)
    elseif value == nil then
      error("bad 'value' argument: string or table expected, got nil", 2)
    elseif type(value) == "table" and #value == 0 then
      error("bad 'value' argument: non-empty table expected", 2)
    end
    host_req_set(tostring(name), type(value) == "table" and value or tostring(value), true)
  end }
end
