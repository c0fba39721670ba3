-- The worker process, and the modules of ngx that say next to nothing here.
local api = ...
local host = api.host
local ngx = ngx
local type = type
local preload = package.preload

ngx.worker = {
  id = host.lane, count = host.lanes, pid = host.pid, exiting = host.exiting, pids = function() return { host.pid() } end,
}

preload["ngx.process"] = function() return { type = function() return "worker" end } end
preload["ngx.balancer"] = function() return {} end
preload["ngx.ssl"] = function() return { server_name = function() return ngx.var.ssl_server_name end } end
