-- Appends entries to streams. Returns their IDs; '' for one whose channel is closed, and '!' with
-- an error for one that cannot be appended.
--
-- KEYS   the streams
-- ARGV   new epoch, milliseconds to keep, then for each entry:
--        number of its key, data, event, size, nonce, entries and bytes of the stream

local writers, ids, changed = {}, {}, {}
local function publish(i)
  local key = KEYS[tonumber(ARGV[i])]
  writers[key] = writers[key] or writer(key, ARGV[1])
  local id = append(writers[key], unpack(ARGV, i + 1, i + 6))
  changed[key] = true
  return id
end
for i = 3, #ARGV, 7 do
  local is_done, id = pcall(publish, i)
  ids[#ids + 1] = is_done and id or '!' .. (type(id) == 'table' and id.err or id)
end
for key in pairs(changed) do redis.call('PEXPIRE', key, ARGV[2]) end
return ids
