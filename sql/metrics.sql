-- Metrics: the view and the text
CREATE ROLE regress_metrics;
CREATE ROLE regress_metrics_monitor IN ROLE pg_monitor;
SELECT resilience.create_bulkhead('metrics bulkhead', application_name => 'nobody at all', max_running => 3, max_connections => 7);
SELECT resilience.create_breaker('metrics breaker');
SELECT resilience.create_feature('metrics feature');
SELECT resilience.create_health_check('metrics check', query => 'SELECT 7', critical_threshold => 9, enabled => false);
SELECT resilience.create_experiment('metrics experiment', 'error');
SELECT resilience.create_degradation('metrics degradation', 'unhealthy', 'low', '{"work_mem": "1MB"}');

-- families with their types and labels
SELECT name, type, coalesce(string_agg(DISTINCT label, ' ' ORDER BY label), '') AS labels, min(length(help)) > 10 AS helps
	FROM resilience.metrics LEFT JOIN LATERAL jsonb_object_keys(labels) label ON true
	WHERE name !~ 'endpoint|health_since|load_limit|max_running|retry_attempts|check_value|check_age' GROUP BY name, type ORDER BY name COLLATE "C";

-- numbers of what was created
SELECT name, labels - 'database' AS labels, value FROM resilience.metrics
	WHERE labels::text ~ 'metrics [a-z]' AND name !~ 'seconds_total|transitions|duration' ORDER BY name COLLATE "C", labels::text COLLATE "C";

-- bounds of the histograms
SELECT name, string_agg(DISTINCT labels->>'le', ' ' ORDER BY labels->>'le') AS bounds FROM resilience.metrics WHERE labels ? 'le' GROUP BY 1 ORDER BY 1;
-- cumulative; the last one is the count
SELECT count(*) FROM (SELECT value - lag(value) OVER (PARTITION BY name, labels - 'le' ORDER BY (labels->>'le')::float8) AS more
	FROM resilience.metrics WHERE labels ? 'le') b WHERE more < 0;

-- the text says the same
SELECT count(*) FROM regexp_split_to_table(resilience.prometheus_metrics(), E'\n') line
	WHERE line !~ '^# (HELP resilience_[a-z_]+ [A-Za-z0-9].*\.|TYPE resilience_[a-z_]+ (gauge|counter|histogram))$'
	AND line !~ '^resilience_[a-z_]+(\{([a-z_]+="([^"\\]|\\.)*",?)+\})? [-+0-9.eInfNa]+$' AND line <> '';
-- a database's name is known a moment later
SELECT regexp_replace(line, 'database="[^"]*"', 'database="..."') AS line
	FROM regexp_split_to_table(resilience.prometheus_metrics(), E'\n') line WHERE line ~ 'metrics feature' AND line !~ 'seconds';
SELECT line FROM regexp_split_to_table(resilience.prometheus_metrics(), E'\n') line WHERE line ~ '^# .*resilience_recovery_seconds';

-- who may
SET ROLE regress_metrics;
SELECT count(*) > 100 FROM resilience.metrics;
SELECT length(resilience.prometheus_metrics()) > 100;
SELECT count(*) > 100 FROM resilience.metric_rows();
SET ROLE regress_metrics_monitor;
SELECT count(*) > 100 FROM resilience.metrics;
SELECT length(resilience.prometheus_metrics()) > 100;
RESET ROLE;

SELECT resilience.drop_bulkhead('metrics bulkhead'), resilience.drop_breaker('metrics breaker'), resilience.drop_feature('metrics feature'),
	resilience.drop_health_check('metrics check'), resilience.drop_experiment('metrics experiment'), resilience.drop_degradation('metrics degradation') \g /dev/null
SELECT count(*) FROM resilience.metrics WHERE labels::text ~ 'metrics [a-z]';
DROP ROLE regress_metrics, regress_metrics_monitor;
