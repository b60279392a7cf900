-- Tells how many connections members have in one process.
--
-- KEYS   the lease of the process, then its channels
-- ARGV   new epoch, milliseconds to keep, process, milliseconds of the lease, nonce,
--        entries and bytes of presence, milliseconds to keep a stream without entries, then for
--        each member: number of its channel's key, member, connections

local presences = {}
redis.call('SET', KEYS[1], '', 'PX', ARGV[4])
local function tell_member(i)
  local key = KEYS[tonumber(ARGV[i])]
  local own, member, now = key .. '@members:' .. ARGV[3], ARGV[i + 1], tonumber(ARGV[i + 2])
  local before = tonumber(redis.call('HGET', own, member) or 0)
  local p = presences[key]
  if p == nil then
    p = {key = key, new_epoch = ARGV[1], nonce = ARGV[5], told = 0,
      entries = ARGV[6], bytes = ARGV[7]}
    presences[key] = p
  end
  if now > 0 then
    redis.call('HSET', own, member, ARGV[i + 2])
    redis.call('SADD', key .. '@processes', ARGV[3])
  else
    redis.call('HDEL', own, member)
    if redis.call('EXISTS', own) == 0 then redis.call('SREM', key .. '@processes', ARGV[3]) end
  end
  change(p, member, now - before)
end
-- Keys of one channel that hold something else leave the other channels alone.
for i = 9, #ARGV, 3 do pcall(tell_member, i) end
for key in pairs(presences) do
  redis.call('PEXPIRE', key .. '@members:' .. ARGV[3], ARGV[2])
  keep(key, ARGV[2], ARGV[8])
end
return {}
