/*-------------------------------------------------------------------------
 *
 * text.h
 *		Strings of unknown origin, for those who read JSON, HTML or metrics.
 *
 * Names and messages come from databases of any encoding, and are not
 * converted: what is no UTF-8 becomes U+FFFD, if nothing else is said.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_SHARED_TEXT_H
#define RSL_SHARED_TEXT_H

#include "compat.h"

#include "datatype/timestamp.h"
#include "lib/stringinfo.h"

/* With the quotes around it. */
extern void rsl_append_json_string(StringInfo out, const char *string);

/* Without: between tags, or within the quotes of an attribute. */
extern void rsl_append_html(StringInfo out, const char *string);

/*
 * The value of a label in Prometheus' exposition format, without quotes.  What
 * is no UTF-8, or with "ascii" no ASCII, becomes \xHH.
 */
extern void rsl_append_label_value(StringInfo out, const char *string,
								   bool ascii);

/* 2026-11-25T18:48:30.123Z */
extern void rsl_append_time(StringInfo out, TimestampTz at);

#endif							/* RSL_SHARED_TEXT_H */
