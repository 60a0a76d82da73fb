-- feature_enabled(name, key): what does not depend on load
SELECT resilience.create_feature('recommendations', dimmable => true);
SELECT name, dimmable, dimmer, dimmer_target FROM resilience.features;

-- served in full, all of it
SELECT count(*) FROM generate_series(1, 1000) i WHERE resilience.feature_enabled('recommendations', i::text);
SELECT resilience.feature_enabled('recommendations', ''), resilience.feature_enabled('recommendations', repeat('x', 100000)),
	resilience.feature_enabled('recommendations', NULL);
SELECT resilience.feature_enabled('no such feature', 'x'), resilience.feature_enabled('no such feature', NULL), resilience.feature_enabled('', '');
SELECT resilience.feature_enabled(NULL, 'x') IS NULL AS null_name, resilience.feature_enabled(NULL::text, NULL) IS NULL AS both;

-- other reasons come before the key
SELECT resilience.set_feature('recommendations', false, 'by hand');
SELECT count(*) FROM generate_series(1, 1000) i WHERE resilience.feature_enabled('recommendations', i::text);
SELECT resilience.set_feature('recommendations', true);

-- everybody may ask, in parallel too
SELECT provolatile, proparallel, proisstrict, has_function_privilege('public', oid, 'EXECUTE')
	FROM pg_proc WHERE pronamespace = 'resilience'::regnamespace AND proname = 'feature_enabled' ORDER BY pronargs;
SELECT resilience.drop_feature('recommendations');
