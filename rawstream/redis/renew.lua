-- Renews the lease of a process, and removes processes whose lease has ended from its channels.
-- Returns for each channel whether it knows this process (1 or 0), the last ID of its stream, and
-- that of its presence; '' for a stream that does not exist.
--
-- KEYS   the lease of the process, then its channels
-- ARGV   new epoch, milliseconds to keep, process, milliseconds of the lease ('' to end it), nonce,
--        entries and bytes of presence, lease prefix, milliseconds to keep a stream without entries

local found = {}
local function last_of(key) return redis.call('EXISTS', key) == 1 and last_id(key) or '' end
if ARGV[4] == '' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], '', 'PX', ARGV[4])
end
local function renew(i)
  local key = KEYS[i]
  local p = {key = key, new_epoch = ARGV[1], nonce = ARGV[5] .. ':' .. i, told = 0,
    entries = ARGV[6], bytes = ARGV[7]}
  remove_dead(p, ARGV[8])
  redis.call('PEXPIRE', key .. '@members:' .. ARGV[3], ARGV[2])
  keep(key, ARGV[2], ARGV[9])
  return redis.call('SISMEMBER', key .. '@processes', ARGV[3]), last_of(key),
    last_of(key .. '@presence')
end
for i = 2, #KEYS do
  local is_done, is_member, last, last_of_presence = pcall(renew, i)
  if not is_done then  -- keys of this channel hold something else
    is_member, last, last_of_presence = 1, '', ''
  end
  found[#found + 1] = is_member
  found[#found + 1] = last
  found[#found + 1] = last_of_presence
end
return found
