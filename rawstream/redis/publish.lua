-- Appends entries to streams. Returns their IDs; '' for one whose channel is closed.
--
-- KEYS   the streams
-- ARGV   new epoch, milliseconds to keep, then for each entry:
--        number of its key, data, event, size, nonce, entries and bytes of the stream

local writers, ids = {}, {}
for i = 3, #ARGV, 7 do
  local key = KEYS[tonumber(ARGV[i])]
  local w = writers[key]
  if w == nil then
    w = writer(key, ARGV[1])
    writers[key] = w
  end
  ids[#ids + 1] = append(w, unpack(ARGV, i + 1, i + 6))
end
for key in pairs(writers) do redis.call('PEXPIRE', key, ARGV[2]) end
return ids
