--
-- preview_bulkhead(): arguments, errors, and that it changes nothing.  What
-- it estimates is tested in test/t/068_preview.pl.
--
CREATE ROLE regress_pv_app;
\pset null '(null)'

-- how good it is depends on what has run; that it says something does not
SELECT arrivals = admitted + queued + refused AS adds_up,
	refused, refused_rate, enforced_refused_rate, refused_connections,
	sessions_now >= 1 AS here, covered_from < covered_to AS some_time,
	covered_to <= clock_timestamp() AS the_past, not_judged
FROM resilience.preview_bulkhead('p');
SELECT arrivals, admitted, queued, refused, refused_rate, enforced_refused_rate,
	enforced_mean_wait, mean_concurrency, max_concurrency, connection_arrivals,
	refused_connections, mean_sessions, max_sessions, sessions_now, not_judged
FROM resilience.preview_bulkhead('p', role_name => 'regress_pv_app',
	max_running => 1, max_connections => 1, max_rate => 1, over => '1 day');

-- the name may be in use: a preview of what one would change
SELECT resilience.create_bulkhead('p', role_name => 'regress_pv_app', max_running => 3);
SELECT arrivals FROM resilience.preview_bulkhead('p', role_name => 'regress_pv_app', max_running => 2);
SELECT name, max_running FROM resilience.bulkheads;
SELECT resilience.drop_bulkhead('p');

-- a read-only transaction, too
BEGIN READ ONLY;
SELECT arrivals FROM resilience.preview_bulkhead('p', role_name => 'regress_pv_app');
COMMIT;

-- what it cannot judge
SELECT not_judged FROM resilience.preview_bulkhead('p', tag => 'tenant=7', max_running => 1);
SELECT not_judged FROM resilience.preview_bulkhead('p', tag => 'tenant', cpu_share => 0.5);
SELECT not_judged FROM resilience.preview_bulkhead('p', max_statement_cost => 5,
	only_under_load => true);
SELECT arrivals, not_judged FROM resilience.preview_bulkhead('p', query_id => 42);

-- the rules of create_bulkhead()
SELECT resilience.preview_bulkhead(NULL);
SELECT resilience.preview_bulkhead('');
SELECT resilience.preview_bulkhead('p', role_name => 'regress_pv_nobody');
SELECT resilience.preview_bulkhead('p', database_name => 'regress_pv_none');
SELECT resilience.preview_bulkhead('p', max_running => -2);
SELECT resilience.preview_bulkhead('p', max_wait => '2 hours');
SELECT resilience.preview_bulkhead('p', command => 'SELEKT');
SELECT resilience.preview_bulkhead('p', command => 'COPY', max_connections => 1);
SELECT resilience.preview_bulkhead('p', mode => 'on');
SELECT resilience.preview_bulkhead('p', auto_revert_refusal_rate => 2);
SELECT resilience.preview_bulkhead('p', expires_at => '2001-01-01');

-- and its own
SELECT resilience.preview_bulkhead('p', over => '0');
SELECT resilience.preview_bulkhead('p', over => '-1 hour');
SELECT resilience.preview_bulkhead('p', over => NULL);
SELECT samples >= 0 AS any_length FROM resilience.preview_bulkhead('p', over => '100 years');

DROP ROLE regress_pv_app;
