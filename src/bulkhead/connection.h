/*-------------------------------------------------------------------------
 *
 * connection.h
 *		Connection bulkheads: at authentication.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_BULKHEAD_CONNECTION_H
#define RSL_BULKHEAD_CONNECTION_H

extern void rsl_connection_init(void);

#endif							/* RSL_BULKHEAD_CONNECTION_H */
