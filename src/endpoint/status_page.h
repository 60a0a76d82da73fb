/*-------------------------------------------------------------------------
 *
 * status_page.h
 *		The status page for people.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_ENDPOINT_STATUS_PAGE_H
#define RSL_ENDPOINT_STATUS_PAGE_H

#include "compat.h"

#include "lib/stringinfo.h"

/*
 * The whole page, or only the part that changes.  Messages are left out unless
 * "tell_all".  Returns the content security policy of the whole page.
 */
extern const char *rsl_append_status_page(StringInfo out, bool tell_all,
										  bool whole);

/* What stands around the part that changes: status_frame.c. */
extern const char *rsl_status_policy(void);
extern void rsl_status_begin(StringInfo out, const char *title);
extern void rsl_status_end(StringInfo out);

#endif							/* RSL_ENDPOINT_STATUS_PAGE_H */
