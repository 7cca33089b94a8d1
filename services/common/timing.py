"""Every wait of the protocol, in seconds, in one place: docs/design.md argues for each."""

# A trade.
REQUEST_S = 10.0  # a front-end works on one trade for so long, then says that the outcome is unknown
LOOK_UP_S = 2.0  # a look-up or an order query has so long
ANSWER_MARGIN_S = 0.1  # a leader is told to answer so much earlier
LAST_ATTEMPT_S = 0.15  # no attempt is started with less time left than this
PAUSE_MIN_S = 0.02  # between attempts when nobody could serve: at first
PAUSE_MAX_S = 0.2  # and after a few of them
DECIDE_S = 2.5  # a leader asks again when a decision was not answered by then
APPEND_S = 2.0  # a leader sends again when an append was not answered by then
LOOK_EVERY_S = 0.25  # a leader sends an empty append to a follower that it has not heard of for so long
FOLLOWER_PATIENCE_S = 0.5  # a follower that fails for so long is not waited for until it has caught up

# In the background.
REPORT_MIN_S = 0.15  # a replica asks the catalog for news after a random time between these two
REPORT_MAX_S = 0.4
REPORT_ANSWER_S = 1.0  # an empty decision is given up after so long
LEVEL_S = 1.5  # a replica is level when it reached the catalog's head so recently
FETCH_S = 0.5  # a replica that starts waits so long for each peer that does not answer

# Leader selection.
CHECK_EVERY_S = 0.1
CHECK_ANSWER_S = 0.15
MISSED_CHECKS = 2  # so many missed in a row make a replica silent
START_PATIENCE_S = 2.0  # a front-end that starts waits at most so long for every replica to be level or silent
NOTICE_AGAIN_S = 1.0  # a replica that shows another role than it was told is told again after so long
STALE_LEADER_S = 0.6  # a leader so much staler than another one, for so long, is replaced

# The cache's sessions.
LEASE_S = 1.0  # as the front-end counts, from before it asked
LEASE_AT_CATALOG_S = 1.05  # as the catalog counts, from when it was asked
RENEW_EVERY_S = 0.25
RENEW_AGAIN_S = 0.02  # after the answer "busy"
SESSION_CALL_S = 0.5  # any one message about a session
GRANTOR_S = 0.25  # a catalog that has not said its name by then is not asked for renewals
WITHOUT_GRANTOR_S = 2.5  # no session is opened without one that was there so recently
TELL_AGAIN_S = 0.01  # after a message to a front-end failed

# At the start of the catalog.
REPLICA_CALL_S = 2.0  # any one message to a replica while the state is rebuilt
REBUILD_AGAIN_S = 0.1  # after a replica did not answer

# Where catalogs share etcd.
DECIDE_ANSWER_S = 2.3  # a decision is not tried again later than so long after it was asked for
CONFLICT_PAUSE_S = 0.02  # at most, times the conflicts after the first, before a decision is tried again
ETCD_BESIDE_S = 0.2  # when a read was not answered by then, the next node is asked beside, and no commit is sent
ETCD_READ_S = 0.5  # and the same node once more after so long
ETCD_READ_AGAIN_S = 0.05  # or so long after it failed
ETCD_READS_S = 2.0  # and given up after so long
ETCD_WRITE_S = 0.3  # a transaction's outcome is unknown when it was not answered by then
ETCD_AGAIN_S = 0.2  # after etcd did not answer, where there is nothing to do but wait for it
TELL_S = 0.5  # a front-end that has not answered an announcement by then loses its session
KEEP_EVERY_S = 1.0  # a catalog looks after what nobody waits for: sessions that are over, reports
PROBE_AFTER_S = 10.0  # a session that was not heard of for so long is asked whether it is there
SILENT_S = 60.0  # and ended when it did not answer for so long
CLAIM_BEAT_S = 0.5  # who rebuilds the state says so as often
CLAIM_PATIENCE_S = 3.0  # and is taken for dead when it did not for so long
COMPACT_EVERY_S = 300.0  # etcd forgets what was changed longer ago than one to two of these
