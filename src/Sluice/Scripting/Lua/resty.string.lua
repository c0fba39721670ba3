local api = ...
return {
  _VERSION = "0.16",
  to_hex = api.hex,
  atoi = tonumber,
}
