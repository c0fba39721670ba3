-- Variables: ngx.var.
local api = ...
local host = api.host
local ngx = ngx
local type, error, tostring, setmetatable = type, error, tostring, setmetatable
local string = api.string
local find, gmatch = string.find, string.gmatch
local checked, kept_of, raising, request_table = api.checked, api.kept_of, api.raising, api.request_table

local host_var, host_set_var = raising(host.var), raising(host.set_var)
-- nginx's own, which it lets nobody set
local fixed = {}
for name in gmatch([[uri document_uri request_uri request request_method request_id request_time request_length request_completion request_body request_body_file remote_addr remote_port
  remote_user server_addr server_port server_protocol server_name scheme https host hostname status body_bytes_sent bytes_sent connection connection_requests content_length content_type
  is_args query_string time_local time_iso8601 msec pid pipe nginx_version realip_remote_addr realip_remote_port binary_remote_addr proxy_protocol_addr proxy_protocol_port
  upstream_addr upstream_status upstream_response_time upstream_connect_time upstream_header_time upstream_response_length upstream_bytes_received upstream_bytes_sent]], "%S+") do
  fixed[name] = true
end

ngx.var = setmetatable({}, {
  __index = function(_, name)
    local kind = type(name)
    if kind == "number" then
      return nil
    elseif kind ~= "string" then
      error("bad variable name", 2)
    end
    local value = host_var(name)
    -- no query is not an empty one
    if value == "" and (name == "args" or name == "query_string") and not kept_of("args_set") then
      return nil
    end
    return value
  end,
  __newindex = function(_, name, value)
    if type(name) ~= "string" then
      error("bad variable name", 2)
    elseif name == "args" then
      request_table().args_set = value ~= nil
      checked(host.set_args(tostring(value or "")))
    elseif fixed[name] or find(name, "^ssl_") then
      error('variable "' .. name .. '" not changeable', 2)
    elseif find(name, "^http_") or find(name, "^arg_") or find(name, "^cookie_") or find(name, "^sent_http_") then
      error('variable "' .. name .. '" not found for writing; maybe it is a built-in variable that is not changeable or you forgot to use "set $' .. name
        .. " '';\" in the config file to define it first", 2)
    else
      host_set_var(name, value ~= nil and tostring(value) or nil)
    end
  end,
})
