/*-------------------------------------------------------------------------
 *
 * status_page.c
 *		The status page for people: what is wrong first, then the figures.
 *
 * Plain tables, with bars and curves as SVG.  A colour never stands alone:
 * there is a word or a mark beside it.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xlog.h"
#include "endpoint/component_list.h"
#include "endpoint/status_page.h"
#include "health/samples.h"
#include "health/standby_lag.h"
#include "metrics/figures.h"
#include "shared/events.h"
#include "shared/settings.h"
#include "shared/text.h"
#include "shared/workers.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

/* a table shows so many rows, and says how many more there are */
#define MAX_ROWS		50

#define MAX_EVENTS		8

/* curves are at least so many seconds wide */
#define LEAST_SPAN		60

/* marks that are told apart without colours */
static const char *const marks[] = {"?", "&#10003;", "!", "&#10005;"};

/*
 * Pieces
 */

static void
append_badge(StringInfo out, rsl_health_status status, const char *word)
{
	appendStringInfo(out, "<span class=\"badge %s\"><span aria-hidden=\"true\">%s</span> %s</span>",
					 rsl_health_status_name(status), marks[status], word);
}

/* 4.2 s, 12 min, 3 h, 5 d */
static void
append_duration(StringInfo out, double seconds)
{
	if (seconds < 0)
		seconds = 0;
	if (seconds < 10)
		appendStringInfo(out, "%.1f s", seconds);
	else if (seconds < 120)
		appendStringInfo(out, "%.0f s", seconds);
	else if (seconds < 7200)
		appendStringInfo(out, "%.0f min", seconds / 60);
	else if (seconds < 48 * 3600)
		appendStringInfo(out, "%.0f h", seconds / 3600);
	else
		appendStringInfo(out, "%.0f d", seconds / 86400);
}

static void
append_ago(StringInfo out, TimestampTz at)
{
	append_duration(out, (GetCurrentTimestamp() - at) / 1e6);
}

/* An object's name, and its database in small letters. */
static void
append_name(StringInfo out, const char *name, const char *database)
{
	appendStringInfoString(out, "<th scope=\"row\">");
	rsl_append_html(out, name);
	appendStringInfoString(out, "<small>");
	rsl_append_html(out, database);
	appendStringInfoString(out, "</small></th>");
}

static void
append_bar(StringInfo out, double share)
{
	share = Max(0, Min(1, share));
	appendStringInfo(out,
					 "<svg class=\"bar%s\" viewBox=\"0 0 100 8\" preserveAspectRatio=\"none\" aria-hidden=\"true\">"
					 "<rect width=\"%.1f\" height=\"8\"/></svg>",
					 share >= 1 ? " full" : "", share * 100);
}

/* "3 of 8" with a bar, or "3" without a limit. */
static void
append_meter(StringInfo out, int64 is, int64 limit)
{
	appendStringInfoString(out, "<td class=\"meter\">");
	if (limit < 0)
		appendStringInfo(out, INT64_FORMAT, is);
	else
	{
		appendStringInfo(out, INT64_FORMAT " of " INT64_FORMAT, is, limit);
		append_bar(out, limit == 0 ? (is > 0) : (double) is / limit);
	}
	appendStringInfoString(out, "</td>");
}

static void
begin_table(StringInfo out, const char *title, int count, const char *columns)
{
	appendStringInfo(out, "<section><h2>%s", title);
	if (count >= 0)
		appendStringInfo(out, " <span class=\"dim\">%d</span>", count);
	appendStringInfo(out, "</h2><table><thead><tr>%s</tr></thead><tbody>\n",
					 columns);
}

static void
end_table(StringInfo out, int count)
{
	appendStringInfoString(out, "</tbody></table>");
	if (count > MAX_ROWS)
		appendStringInfo(out, "<p class=\"dim\">and %d more: see /health and /metrics</p>",
						 count - MAX_ROWS);
	appendStringInfoString(out, "</section>\n");
}

/*
 * Head, and what is wrong
 */

static void
append_head(StringInfo out, rsl_health_status status, TimestampTz since,
			const char *title)
{
	const char *name = rsl_health_status_name(status);

	appendStringInfo(out,
					 "<header class=\"%s\" data-title=\"%s\"><h1><span class=\"mark\" aria-hidden=\"true\">%s</span>%s</h1><p>",
					 name, title, marks[status], name);
	if (cluster_name[0] != '\0')
	{
		appendStringInfoString(out, "<b>");
		rsl_append_html(out, cluster_name);
		appendStringInfoString(out, "</b>, ");
	}
	if (RecoveryInProgress())
	{
		rsl_standby_lag lag;

		rsl_standby_lag_get(&lag);
		appendStringInfoString(out, "standby");
		if (!lag.streams)
			appendStringInfoString(out, ", not connected to a primary");
		else if (lag.us >= 0)
		{
			appendStringInfoString(out, ", ");
			append_duration(out, lag.us / 1e6);
			appendStringInfoString(out, " behind");
		}
	}
	else
		appendStringInfoString(out, "primary");
	if (since != 0)
	{
		appendStringInfo(out, ", %s for ", name);
		append_ago(out, since);
	}
	appendStringInfo(out, "<span class=\"dim\">PostgreSQL %.*s, up ",
					 (int) strcspn(PG_VERSION, " "), PG_VERSION);
	append_ago(out, PgStartTime);
	appendStringInfoString(out, "</span></p></header>\n");
}

static void
append_component(StringInfo out, const rsl_component *component, bool tell_all)
{
	char		database[NAMEDATALEN] = "server";
	char		kind[32];

	strlcpy(kind, component->kind, sizeof(kind));
	for (char *c = kind; *c; c++)
	{
		if (*c == '_')
			*c = ' ';
	}
	if (OidIsValid(component->database))
		rsl_database_name(component->database, database);

	appendStringInfoString(out, "<tr><td>");
	append_badge(out, component->status, rsl_health_status_name(component->status));
	if (component->critical)
		appendStringInfoString(out, "<small>critical</small>");
	appendStringInfo(out, "</td><th scope=\"row\">%s ", kind);
	rsl_append_html(out, component->name);
	appendStringInfoString(out, "<small>");
	rsl_append_html(out, database);
	if (component->since != 0)
	{
		appendStringInfoString(out, ", for ");
		append_ago(out, component->since);
	}
	appendStringInfoString(out, "</small>");
	if (tell_all && component->message[0] != '\0')
	{
		appendStringInfoString(out, "<span class=\"dim\">");
		rsl_append_html(out, component->message);
		appendStringInfoString(out, "</span>");
	}
	appendStringInfoString(out, "</th></tr>\n");
}

static void
append_trouble(StringInfo out, bool tell_all)
{
	rsl_component_list list;
	int			troubled = 0;

	rsl_component_list_make(&list);
	while (troubled < list.count &&
		   list.components[troubled].status != RSL_HEALTHY)
		troubled++;
	if (troubled == 0)
	{
		appendStringInfo(out, "<section><h2>All %d components are healthy</h2><p class=\"dim\">load shedder, workers, health checks, breakers, bulkheads, features</p></section>\n",
						 list.count);
		return;
	}
	appendStringInfo(out,
					 "<section><h2>Not healthy <span class=\"dim\">%d of %d components</span></h2>"
					 "<table><thead class=\"hidden\"><tr><th scope=\"col\">status</th><th scope=\"col\">component</th></tr></thead><tbody>\n",
					 troubled, list.count);
	for (int i = 0; i < Min(troubled, MAX_ROWS); i++)
		append_component(out, &list.components[i], tell_all);
	if (rsl_health_is_suspect())
		appendStringInfoString(out, "<tr><td></td><td>Most health checks were cut off at once: rather their workers are in trouble.</td></tr>\n");
	end_table(out, troubled);
}

/*
 * The last two minutes
 */

static double
sample_value(const rsl_sample *sample, int which)
{
	switch (which)
	{
		case 0:
			return sample->running;
		case 1:
			return sample->waiting;
		case 2:
			return sample->admitted;
		case 3:
			return sample->refused;
		default:
			return sample->cpu_idle == RSL_SAMPLE_NO_IDLE ? 0 :
				100 - sample->cpu_idle / 10.0;
	}
}

static void
append_curve(StringInfo out, const rsl_sample *samples, int n, int which,
			 const char *label, double least_top)
{
	double		top = least_top;
	int			span = Max(n, LEAST_SPAN);
	int			first = span - n;

	for (int i = 0; i < n; i++)
		top = Max(top, sample_value(&samples[i], which));
	appendStringInfo(out,
					 "<svg class=\"curve\" viewBox=\"0 0 %d 30\" preserveAspectRatio=\"none\" role=\"img\" "
					 "aria-label=\"%s in the last two minutes, at most %.0f\"><path class=\"a\" d=\"M%d 30",
					 span - 1, label, top, first);
	for (int i = 0; i < n; i++)
		appendStringInfo(out, "L%d %.1f", first + i,
						 29 - 28 * sample_value(&samples[i], which) / top);
	appendStringInfo(out, "L%d 30Z\"/><path class=\"l\" d=\"", span - 1);
	for (int i = 0; i < n; i++)
		appendStringInfo(out, "%c%d %.1f", i == 0 ? 'M' : 'L', first + i,
						 29 - 28 * sample_value(&samples[i], which) / top);
	appendStringInfoString(out, "\"/></svg>");
}

/* One column for each second, the higher the worse. */
static void
append_strip(StringInfo out, const rsl_sample *samples, int n)
{
	static const int heights[] = {20, 8, 14, 20};
	int			span = Max(n, LEAST_SPAN);
	int			begun = 0;

	appendStringInfo(out,
					 "<svg class=\"strip\" viewBox=\"0 0 %d 20\" preserveAspectRatio=\"none\" role=\"img\" "
					 "aria-label=\"health in the last two minutes, second by second\">",
					 span);
	for (int i = 1; i <= n; i++)
	{
		int			status = samples[begun].status;

		if (i < n && samples[i].status == status)
			continue;
		appendStringInfo(out, "<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\"/>",
						 rsl_health_status_name(status),
						 span - n + begun, 20 - heights[status],
						 i - begun, heights[status]);
		begun = i;
	}
	appendStringInfoString(out, "</svg><span class=\"dim\">health, last two minutes; the higher the worse</span>");
}

static void
append_load(StringInfo out)
{
	static const struct
	{
		const char *label;
		const char *unit;
		double		least_top;
	}			tiles[] =
	{
		{"running", "", 4},
		{"waiting", "", 4},
		{"admitted", "/s", 10},
		{"refused", "/s", 10},
		{"CPU busy", " %", 100},
	};
	rsl_sample *samples = palloc(RSL_NUM_SAMPLES * sizeof(rsl_sample));
	int			n = rsl_samples_copy(samples, RSL_NUM_SAMPLES);
	const rsl_sample *last;

	if (n == 0)
		return;
	last = &samples[n - 1];
	appendStringInfoString(out, "<section><h2>Load</h2><div class=\"tiles\">\n");
	for (int i = 0; i < lengthof(tiles); i++)
	{
		if (i == 4 && last->cpu_idle == RSL_SAMPLE_NO_IDLE)
			continue;
		appendStringInfo(out, "<div><span class=\"dim\">%s</span><b>%.0f<small>%s",
						 tiles[i].label, sample_value(last, i), tiles[i].unit);
		if (i == 0 && last->limit >= 0)
			appendStringInfo(out, " of %d", last->limit);
		appendStringInfoString(out, "</small></b>");
		append_curve(out, samples, n, i, tiles[i].label, tiles[i].least_top);
		appendStringInfoString(out, "</div>\n");
	}
	appendStringInfoString(out, "</div>");
	append_strip(out, samples, n);
	appendStringInfoString(out, "</section>\n");
}

static void
append_priorities(StringInfo out)
{
	rsl_priority_counts counts[RSL_NUM_PRIORITIES];

	LWLockAcquire(rsl_stats_lock, LW_SHARED);
	rsl_count_priorities(counts);
	LWLockRelease(rsl_stats_lock);

	begin_table(out, "Priorities", -1,
				"<th scope=\"col\">priority</th><th scope=\"col\" class=\"n\">running</th>"
				"<th scope=\"col\" class=\"n\">waiting</th><th scope=\"col\" class=\"n wide\">admitted</th>"
				"<th scope=\"col\" class=\"n\">refused</th>");
	for (int p = RSL_NUM_PRIORITIES - 1; p >= 0; p--)
		appendStringInfo(out,
						 "<tr><th scope=\"row\">%s</th><td class=\"n\">%d</td><td class=\"n\">%d</td>"
						 "<td class=\"n wide\">" INT64_FORMAT "</td><td class=\"n\">" UINT64_FORMAT "</td></tr>\n",
						 rsl_priority_name(p), counts[p].running,
						 counts[p].waiting, counts[p].admitted,
						 pg_atomic_read_u64(&rsl_shmem->shed[p]) +
						 pg_atomic_read_u64(&rsl_shmem->timed_out[p]) +
						 pg_atomic_read_u64(&rsl_shmem->preempted[p]));
	end_table(out, 0);
}

/*
 * Objects
 */

static void
append_bulkheads(StringInfo out)
{
	int			n;
	rsl_bulkhead_figures *bulkheads = rsl_bulkhead_figures_get(&n);

	if (n == 0)
		return;
	begin_table(out, "Bulkheads", n,
				"<th scope=\"col\">name</th><th scope=\"col\">running</th>"
				"<th scope=\"col\" class=\"n\">waiting</th><th scope=\"col\" class=\"wide\">connections</th>"
				"<th scope=\"col\" class=\"n\">refused</th>");
	for (int i = 0; i < Min(n, MAX_ROWS); i++)
	{
		rsl_bulkhead_figures *bulkhead = &bulkheads[i];

		appendStringInfoString(out, "<tr>");
		append_name(out, bulkhead->name, bulkhead->database_name);
		append_meter(out, bulkhead->counts.running, bulkhead->max_running);
		appendStringInfo(out, "<td class=\"n\">%d</td>", bulkhead->counts.waiting);
		appendStringInfo(out, "<td class=\"wide\">%u", bulkhead->connections);
		if (bulkhead->max_connections >= 0)
			appendStringInfo(out, " of %d", bulkhead->max_connections);
		appendStringInfo(out, "</td><td class=\"n\">" UINT64_FORMAT "</td></tr>\n",
						 bulkhead->refused_connections +
						 bulkhead->refused_statements + bulkhead->timed_out +
						 bulkhead->preempted);
	}
	end_table(out, n);
}

static void
append_breakers(StringInfo out)
{
	int			n;
	rsl_breaker_figures *breakers = rsl_breaker_figures_get(&n);

	if (n == 0)
		return;
	begin_table(out, "Circuit breakers", n,
				"<th scope=\"col\">name</th><th scope=\"col\">state</th>"
				"<th scope=\"col\" class=\"n wide\">calls</th><th scope=\"col\" class=\"n\">failed</th>"
				"<th scope=\"col\" class=\"n\">rejected</th>");
	for (int i = 0; i < Min(n, MAX_ROWS); i++)
	{
		rsl_breaker_figures *breaker = &breakers[i];
		bool		closed = breaker->position == RSL_BREAKER_CLOSED;

		appendStringInfoString(out, "<tr>");
		append_name(out, breaker->name, breaker->database_name);
		appendStringInfoString(out, "<td>");
		append_badge(out, closed ? RSL_HEALTHY : RSL_DEGRADED,
					 closed ? "closed" :
					 breaker->position == RSL_BREAKER_OPEN ? "open" : "half-open");
		appendStringInfo(out, "</td><td class=\"n wide\">" UINT64_FORMAT "</td>"
						 "<td class=\"n\">" UINT64_FORMAT "</td>"
						 "<td class=\"n\">" UINT64_FORMAT "</td></tr>\n",
						 breaker->successes + breaker->failures + breaker->ignored,
						 breaker->failures, breaker->rejected);
	}
	end_table(out, n);
}

static void
append_checks(StringInfo out, bool tell_all)
{
	int			n;
	rsl_check_figures *checks = rsl_check_figures_get(&n);

	if (n == 0)
		return;
	begin_table(out, "Health checks", n,
				"<th scope=\"col\">name</th><th scope=\"col\">status</th>"
				"<th scope=\"col\" class=\"n\">value</th><th scope=\"col\" class=\"n wide\">took</th>"
				"<th scope=\"col\" class=\"n\">age</th>");
	for (int i = 0; i < Min(n, MAX_ROWS); i++)
	{
		rsl_check_figures *check = &checks[i];

		appendStringInfoString(out, "<tr>");
		append_name(out, check->name, check->database_name);
		appendStringInfoString(out, "<td>");
		append_badge(out, check->status, rsl_health_status_name(check->status));
		if (tell_all && check->message[0] != '\0')
		{
			appendStringInfoString(out, "<small>");
			rsl_append_html(out, check->message);
			appendStringInfoString(out, "</small>");
		}
		appendStringInfoString(out, "</td><td class=\"n\">");
		if (check->has_value)
			appendStringInfo(out, "%.4g", check->value);
		appendStringInfoString(out, "</td><td class=\"n wide\">");
		if (check->has_run)
			appendStringInfo(out, "%.0f ms", check->duration * 1000);
		appendStringInfoString(out, "</td><td class=\"n\">");
		if (check->has_run)
			append_duration(out, check->age);
		appendStringInfoString(out, "</td></tr>\n");
	}
	end_table(out, n);
}

static void
append_features(StringInfo out)
{
	int			n;
	rsl_feature_figures *features = rsl_feature_figures_get(&n);

	if (n == 0)
		return;
	begin_table(out, "Features", n,
				"<th scope=\"col\">name</th><th scope=\"col\">state</th>"
				"<th scope=\"col\">served</th><th scope=\"col\" class=\"n wide\">asked</th>"
				"<th scope=\"col\" class=\"n wide\">said no</th>");
	for (int i = 0; i < Min(n, MAX_ROWS); i++)
	{
		rsl_feature_figures *feature = &features[i];
		bool		on = feature->state == RSL_FEATURE_ON;

		appendStringInfoString(out, "<tr>");
		append_name(out, feature->name, feature->database_name);
		appendStringInfoString(out, "<td>");
		append_badge(out, on && feature->dimmer > 0.9 ? RSL_HEALTHY :
					 feature->state == RSL_FEATURE_OFF ? RSL_HEALTH_UNKNOWN : RSL_DEGRADED,
					 rsl_feature_state_name(feature->state));
		appendStringInfo(out, "</td><td class=\"meter\">%.0f %%",
						 on ? feature->dimmer * 100 : 0);
		append_bar(out, on ? Min(feature->dimmer, 0.999) : 0);
		appendStringInfo(out, "</td><td class=\"n wide\">" UINT64_FORMAT "</td>"
						 "<td class=\"n wide\">" UINT64_FORMAT "</td></tr>\n",
						 feature->evaluations, feature->degraded);
	}
	end_table(out, n);
}

/*
 * Events, newest first
 */

static void
append_events(StringInfo out, bool tell_all)
{
	uint64		last = rsl_event_last_id();
	uint64		first = Max(rsl_event_first_id(last),
							last >= MAX_EVENTS ? last - MAX_EVENTS + 1 : 1);

	if (last == 0)
		return;
	begin_table(out, "Newest events", -1,
				"<th scope=\"col\">ago</th><th scope=\"col\">object</th><th scope=\"col\">is now</th>");
	for (uint64 id = last; id >= first; id--)
	{
		rsl_event_record event;
		const char *object;
		const char *from;
		const char *to;
		const char *detail;

		if (!rsl_event_get(id, &event))
			continue;
		rsl_event_texts(&event, &object, &from, &to, &detail);
		appendStringInfoString(out, "<tr><td class=\"t\">");
		append_ago(out, event.at);
		appendStringInfoString(out, "</td><th scope=\"row\">");
		rsl_append_html(out, object);
		appendStringInfo(out, "<small>%s</small></th><td>",
						 rsl_event_kind_name(event.kind));
		rsl_append_html(out, to);
		if (from[0] != '\0')
		{
			appendStringInfoString(out, " <span class=\"dim\">was ");
			rsl_append_html(out, from);
			appendStringInfoString(out, "</span>");
		}
		if (tell_all && detail[0] != '\0')
		{
			appendStringInfoString(out, "<small class=\"wide\">");
			rsl_append_html(out, detail);
			appendStringInfoString(out, "</small>");
		}
		appendStringInfoString(out, "</td></tr>\n");
	}
	end_table(out, 0);
}

const char *
rsl_append_status_page(StringInfo out, bool tell_all, bool whole)
{
	TimestampTz since;
	rsl_health_status status = rsl_health_whole(&since);
	StringInfoData title;

	initStringInfo(&title);
	appendStringInfo(&title, "%s: ", rsl_health_status_name(status));
	rsl_append_html(&title, cluster_name[0] != '\0' ? cluster_name : "PostgreSQL");

	if (whole)
		rsl_status_begin(out, title.data);
	append_head(out, status, since, title.data);
	append_trouble(out, tell_all);
	append_load(out);
	append_checks(out, tell_all);
	appendStringInfoString(out, "<div class=\"pair\">\n");
	append_bulkheads(out);
	append_breakers(out);
	append_features(out);
	append_priorities(out);
	appendStringInfoString(out, "</div>\n");
	append_events(out, tell_all);
	if (whole)
		rsl_status_end(out);
	return rsl_status_policy();
}
