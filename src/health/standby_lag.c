/*-------------------------------------------------------------------------
 *
 * standby_lag.c
 *		How far this standby is behind, from shared memory.
 *
 * In bytes: the end of the WAL that the primary told of last, less what is
 * replayed.  Without a connection nobody knows.
 *
 * In time: of two upper bounds the smaller one, since when replay has not
 * caught up with what was received, by this server's clock (too large under
 * steady load), and the age of the last transaction that was replayed (too
 * large after a quiet time).
 *
 * A connection that has died in silence: the receiver asks for an answer after
 * half of wal_receiver_timeout, so that without one a little later the time of
 * the last message counts.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "health/standby_lag.h"
#include "replication/walreceiver.h"
#include "utils/timestamp.h"

void
rsl_standby_lag_get(rsl_standby_lag *lag)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz last_transaction = GetLatestXTime();
	XLogRecPtr	replayed = GetXLogReplayRecPtr(NULL);
	TimestampTz last_message;
	XLogRecPtr	end;
	int64		silent;
	int			delay_ms;

	SpinLockAcquire(&WalRcv->mutex);
	lag->streams = WalRcv->walRcvState == WALRCV_STREAMING;
	last_message = WalRcv->lastMsgReceiptTime;
	end = Max(WalRcv->latestWalEnd, WalRcv->flushedUpto);
	SpinLockRelease(&WalRcv->mutex);

	lag->bytes = -1;
	lag->is_silent = false;
	lag->us = last_transaction == 0 ? -1 : Max(now - last_transaction, 0);
	if (!lag->streams)
		return;

	lag->bytes = end > replayed ? (int64) (end - replayed) : 0;
	delay_ms = GetReplicationApplyDelay();
	if (delay_ms >= 0 &&
		(lag->us < 0 || delay_ms * INT64CONST(1000) < lag->us))
		lag->us = delay_ms * INT64CONST(1000);
	silent = last_message == 0 ? 0 : now - last_message;
	if (wal_receiver_timeout > 0 &&
		silent > wal_receiver_timeout * INT64CONST(500) + 5 * USECS_PER_SEC)
	{
		lag->us = Max(lag->us, silent);
		lag->is_silent = true;
	}
}
