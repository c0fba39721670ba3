local inner = ...
return {
  _VERSION = "0.16",
  to_hex = inner.hex,
  atoi = tonumber,
}
