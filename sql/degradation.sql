-- Degradations: functions, view, errors
\set VERBOSITY default
CREATE ROLE regress_degrader;

-- defaults, and how values are spelt
-- its default became off in 19
SET jit = on;
SELECT resilience.create_degradation('light', 'loaded', 'normal', '{"work_mem": "1MB", "jit": false, "statement_timeout": 5000}');
SELECT resilience.create_degradation('hard', 'Shedding', 'LOW', '{"max_parallel_workers_per_gather": 0, "random_page_cost": 1.5, "enable_hashjoin": "off"}', false);
SELECT name, when_state, minimum_priority_affected, settings, enabled, active, since IS NOT NULL AS since, transactions_total, skipped_total
	FROM resilience.degradations ORDER BY name;

-- alter
SELECT resilience.alter_degradation('hard', enabled => true);
SELECT resilience.alter_degradation('hard', when_state => 'unhealthy', minimum_priority_affected => 'High', settings => '{"WORK_MEM": "64kB"}');
SELECT name, when_state, minimum_priority_affected, settings, enabled FROM resilience.degradations ORDER BY name;

-- transactional
BEGIN;
SELECT resilience.create_degradation('gone', 'loaded', 'low', '{"jit": "off"}');
SELECT name, active FROM resilience.degradations ORDER BY name;
ROLLBACK;
SELECT name, active FROM resilience.degradations ORDER BY name;

-- names and words
SELECT resilience.create_degradation('light', 'loaded', 'low', '{"jit": "off"}');
\echo :SQLSTATE
SELECT resilience.create_degradation(NULL, 'loaded', 'low', '{"jit": "off"}');
\echo :SQLSTATE
SELECT resilience.create_degradation('', 'loaded', 'low', '{"jit": "off"}');
\echo :SQLSTATE
SELECT resilience.create_degradation('x', 'busy', 'low', '{"jit": "off"}');
\echo :SQLSTATE
SELECT resilience.create_degradation('x', NULL, 'low', '{"jit": "off"}');
\echo :SQLSTATE
SELECT resilience.create_degradation('x', 'loaded', 'lowest', '{"jit": "off"}');
\echo :SQLSTATE
SELECT resilience.create_degradation('x', 'loaded', NULL, '{"jit": "off"}');
\echo :SQLSTATE
SELECT resilience.alter_degradation('x', enabled => false);
\echo :SQLSTATE
SELECT resilience.alter_degradation('light', when_state => 'never');
\echo :SQLSTATE
SELECT resilience.drop_degradation('x');
\echo :SQLSTATE
SELECT resilience.drop_degradation('x', if_exists => true);

-- settings: what they are
SELECT resilience.create_degradation('x', 'loaded', 'low', NULL);
\echo :SQLSTATE
SELECT resilience.create_degradation('x', 'loaded', 'low', '{}');
\echo :SQLSTATE
SELECT resilience.create_degradation('x', 'loaded', 'low', '[]');
\echo :SQLSTATE
SELECT resilience.create_degradation('x', 'loaded', 'low', '["jit"]');
\echo :SQLSTATE
SELECT resilience.create_degradation('x', 'loaded', 'low', '"jit"');
\echo :SQLSTATE
SELECT resilience.create_degradation('x', 'loaded', 'low', '17');
\echo :SQLSTATE
SELECT resilience.create_degradation('x', 'loaded', 'low', 'null');
\echo :SQLSTATE
SELECT resilience.create_degradation('x', 'loaded', 'low', '{"jit": null}');
\echo :SQLSTATE
SELECT resilience.create_degradation('x', 'loaded', 'low', '{"jit": ["off"]}');
\echo :SQLSTATE
SELECT resilience.create_degradation('x', 'loaded', 'low', '{"work_mem": {"a": 1}}');
\echo :SQLSTATE
SELECT resilience.create_degradation('x', 'loaded', 'low', '{"jit": "off", "JIT": "on"}');
\echo :SQLSTATE
SELECT resilience.alter_degradation('light', settings => '{}');
\echo :SQLSTATE

-- settings: which there are, and which may be set
SELECT resilience.create_degradation('x', 'loaded', 'low', '{"work_memory": "1MB"}');
\echo :SQLSTATE
SELECT resilience.create_degradation('x', 'loaded', 'low', '{"": "1MB"}');
\echo :SQLSTATE
SELECT resilience.create_degradation('x', 'loaded', 'low', '{"my.own": "1MB"}');
\echo :SQLSTATE
DO $$
DECLARE
	one text;
	state text;
	allowed text[] = '{}';
	refused int = 0;
	other text[] = '{}';
BEGIN
	FOR one IN SELECT name FROM pg_settings WHERE name NOT IN ('transaction_timeout', 'io_combine_limit', 'min_eager_agg_group_size') ORDER BY name LOOP
		BEGIN
			PERFORM resilience.create_degradation('try', 'loaded', 'low',
				jsonb_build_object(one, (SELECT s.setting FROM pg_settings s WHERE s.name = one)));
			PERFORM resilience.drop_degradation('try');
			IF one !~ '^(enable_|geqo|cursor_|.*_cost$)' THEN
				allowed = allowed || one;
			END IF;
		EXCEPTION WHEN OTHERS THEN
			GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE;
			IF state = '22023' THEN
				refused = refused + 1;
			ELSE
				other = other || one || state;
			END IF;
		END;
	END LOOP;
	RAISE NOTICE 'allowed %', allowed;
	RAISE NOTICE 'many refused %, otherwise %', refused > 200, other;
END $$;
SELECT resilience.create_degradation('x', 'loaded', 'low', '{"search_path": "public"}');
\echo :SQLSTATE
SELECT resilience.create_degradation('x', 'loaded', 'low', '{"role": "postgres"}');
\echo :SQLSTATE
SELECT resilience.create_degradation('x', 'loaded', 'low', '{"session_authorization": "regress_degrader"}');
\echo :SQLSTATE
SELECT resilience.create_degradation('x', 'loaded', 'low', '{"jit": "off", "shared_buffers": "1GB"}');
\echo :SQLSTATE

-- settings: values
SELECT resilience.create_degradation('x', 'loaded', 'low', '{"work_mem": "1 elephant"}');
\echo :SQLSTATE
SELECT resilience.create_degradation('x', 'loaded', 'low', '{"work_mem": "lots"}');
\echo :SQLSTATE
SELECT resilience.create_degradation('x', 'loaded', 'low', '{"work_mem": true}');
\echo :SQLSTATE
SELECT resilience.create_degradation('x', 'loaded', 'low', '{"jit": "perhaps"}');
\echo :SQLSTATE
SELECT resilience.create_degradation('x', 'loaded', 'low', '{"plan_cache_mode": "sometimes"}');
\echo :SQLSTATE
SELECT resilience.alter_degradation('light', settings => '{"statement_timeout": "never"}');
\echo :SQLSTATE
SELECT settings FROM resilience.degradations WHERE name = 'light';

-- settings: room
\set many '{enable_bitmapscan,enable_gathermerge,enable_hashagg,enable_hashjoin,enable_indexscan,enable_material,enable_memoize,enable_mergejoin,enable_nestloop,enable_seqscan,enable_sort,enable_tidscan,geqo,geqo_effort,geqo_seed,jit,constraint_exclusion}'
SELECT resilience.create_degradation('x', 'loaded', 'low',
	(SELECT jsonb_object_agg(one, current_setting(one)) FROM unnest(:'many'::text[]) one));
\echo :SQLSTATE
SELECT resilience.create_degradation('x', 'loaded', 'low', jsonb_build_object('work_mem', repeat(' ', 400) || '4MB'));
\echo :SQLSTATE
SELECT resilience.create_degradation('most', 'degraded', 'low',
	(SELECT jsonb_object_agg(one, current_setting(one)) FROM unnest((:'many'::text[])[1:16]) one));
SELECT resilience.drop_degradation('most');

-- direct DML is held to the same rules
INSERT INTO resilience.degradation_definitions VALUES ('x', 'loaded', 'low', '{"search_path": "public"}');
\echo :SQLSTATE
INSERT INTO resilience.degradation_definitions VALUES ('x', 'loaded', 'low', '{"jit": "on"}');
UPDATE resilience.degradation_definitions SET when_state = 'nonsense' WHERE name = 'x';
\echo :SQLSTATE
SELECT name, active FROM resilience.degradations ORDER BY name;
DELETE FROM resilience.degradation_definitions WHERE name = 'x';

-- privileges: what only superusers set is theirs
SET ROLE regress_degrader;
SELECT resilience.create_degradation('y', 'loaded', 'low', '{"work_mem": "1MB"}');
\echo :SQLSTATE
RESET ROLE;
GRANT USAGE ON SCHEMA resilience TO regress_degrader;
GRANT EXECUTE ON FUNCTION resilience.create_degradation, resilience.alter_degradation, resilience.drop_degradation TO regress_degrader;
SET ROLE regress_degrader;
SELECT resilience.create_degradation('y', 'loaded', 'low', '{"work_mem": "1MB"}');
SELECT resilience.create_degradation('z', 'loaded', 'low', '{"temp_file_limit": "1GB"}');
\echo :SQLSTATE
SELECT resilience.alter_degradation('y', settings => '{"temp_file_limit": "1GB"}');
\echo :SQLSTATE
RESET ROLE;
GRANT SET ON PARAMETER temp_file_limit TO regress_degrader;
SET ROLE regress_degrader;
SELECT resilience.alter_degradation('y', settings => '{"temp_file_limit": "1GB"}');
RESET ROLE;
REVOKE SET ON PARAMETER temp_file_limit FROM regress_degrader;
SET ROLE regress_degrader;
SELECT resilience.alter_degradation('y', enabled => false);
SELECT resilience.drop_degradation('y');
SELECT * FROM resilience.degradations;
\echo :SQLSTATE
RESET ROLE;
GRANT pg_monitor TO regress_degrader;
SET ROLE regress_degrader;
SELECT name FROM resilience.degradations ORDER BY name;
RESET ROLE;

-- nothing is touched meanwhile
SHOW work_mem;
SELECT current_setting('jit'), current_setting('statement_timeout');

SELECT resilience.drop_degradation('light'), resilience.drop_degradation('hard');
SELECT count(*) FROM resilience.degradations;
REVOKE ALL ON FUNCTION resilience.create_degradation, resilience.alter_degradation, resilience.drop_degradation FROM regress_degrader;
REVOKE ALL ON SCHEMA resilience FROM regress_degrader;
DROP ROLE regress_degrader;
