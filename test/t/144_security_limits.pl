# What anybody, and what a grantee, can use up: values of tags, budgets and
# SQLSTATEs of retries, events, log lines, locks; what the probes of foreign
# servers send; who reads the file of limits.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use IO::Select;
use IO::Socket::INET;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir();
my $secret = 'hunter2-4711';
append_to_file("$dir/pass", "*:*:*:*:$secret\n");
append_to_file("$dir/service", "[s]\npassword=$secret\nuser=by_service\n");
chmod 0600, "$dir/pass";

# what the server's own environment has is not for servers that a user names
my $node;
{
	local %ENV = (%ENV, PGPASSWORD => $secret, PGPASSFILE => "$dir/pass", PGSERVICEFILE => "$dir/service", PGOPTIONS => '-c geqo=off');
	$node = PostgreSQL::Test::Cluster->new('limits');
	limit_seconds(150);
	$node->init;
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'resilience'\nautovacuum = off\nresilience.max_compartments = 64\n");
	$node->start;
}
$node->safe_psql('postgres', 'CREATE EXTENSION resilience; CREATE EXTENSION postgres_fdw; CREATE ROLE app LOGIN; CREATE ROLE watcher LOGIN IN ROLE pg_monitor');
my $mon = monitor($node);
my $app = connect_to($node, user => 'app');

# --- 10 000 values of a tag

$mon->ok(q{SELECT resilience.create_bulkhead('tenants', role_name => 'app', tag => 'tenant', max_running => 2)});
my $series = q{SELECT count(*) FROM resilience.metrics};
$app->ok(q{SELECT 1 /*tenant='first'*/});
my ($before, $memory) = ($mon->value($series), $mon->value(q{SELECT sum(allocated_size) FROM pg_shmem_allocations}));
for my $batch (0 .. 99)
{
	$app->write_raw('Q' . pack('N', 4 + length($_) + 1) . "$_\0") for map { "SELECT 1 /*tenant='t" . ($batch * 100 + $_) . "'*/" } 0 .. 99;
	my @errors = grep { $_ } map { $app->result->{error} } 0 .. 99;
	is(scalar @errors, 0, "no statement of batch $batch is refused") if @errors;
}
is($mon->value(q{SELECT admitted_total >= 10000 FROM resilience.bulkheads WHERE name = 'tenants'}), 't', '10 000 values of a tag were served');
cmp_ok($mon->value('SELECT count(*) FROM resilience.compartments'), '<=', 65, 'in as many compartments as there is room for');
cmp_ok($mon->value($series), '<=', $before + 50, 'they make no series of metrics');
is($mon->value(q{SELECT sum(allocated_size) FROM pg_shmem_allocations}), $memory, 'nor take they memory');

# --- refusals, of which anybody can make as many as he likes

$mon->ok(q{SELECT resilience.create_bulkhead('none', role_name => 'app', application_name => 'flood', max_running => 0)});
my $flood = connect_to($node, user => 'app', application_name => 'flood');
my $events = $mon->value('SELECT max(id) FROM resilience.events');
my $from = -s $node->logfile;
for (1 .. 20)
{
	$flood->write_raw('Q' . pack('N', 4 + 9) . "SELECT 1\0") for 1 .. 100;
	is($flood->result->{error}{C}, '53R01', 'refused') for 1 .. 1;
	$flood->result for 2 .. 100;
}
is($mon->value(q{SELECT refused_statements_total FROM resilience.bulkheads WHERE name = 'none'}), 2000, '2000 statements were refused');
wait_for_value($mon, q{SELECT to_state FROM resilience.events WHERE object = 'none' AND kind = 'bulkhead' ORDER BY id DESC LIMIT 1}, 'available');
cmp_ok($mon->value('SELECT max(id) FROM resilience.events') - $events, '<', 100, 'they are a handful of events');
my $lines = () = substr(slurp_file($node->logfile), $from) =~ /ERROR:  bulkhead "none" is full/g;
cmp_ok($lines, '<', 60, 'and of lines in the log');
cmp_ok($lines, '>', 0, 'which has some');

# a refusal that is caught does not keep a later error out of the log
$mon->ok(q{SELECT resilience.create_breaker('shut'), resilience.force_breaker('shut', 'open')});
$mon->ok('GRANT EXECUTE ON FUNCTION resilience.call_with_breaker TO app');
my $catches = q{DO $$ BEGIN PERFORM resilience.call_with_breaker('shut', 'SELECT 1'); EXCEPTION WHEN SQLSTATE '08R01' THEN NULL; END $$};
$app->ok($catches) for 1 .. 3;
$app->query(q{DO $$ BEGIN RAISE EXCEPTION 'it is told all the same' USING ERRCODE = '57014'; END $$});
like(slurp_file($node->logfile), qr/ERROR:  it is told all the same/, 'a refusal that is caught hides no later error');

# --- names that a grantee of retry() makes up

$mon->ok('GRANT EXECUTE ON FUNCTION resilience.retry TO app');
my %codes;
for my $n (1 .. 40)
{
	my $error = $app->query("SELECT resilience.retry('SELECT 1', budget => 'b$n')")->{error};
	$codes{ $error ? $error->{C} : 'ok' }++;
}
is($mon->value('SELECT count(*) FROM resilience.retry_budgets'), 16, 'there are at most 16 budgets of retries');
is_deeply([ sort keys %codes ], [ '53400', 'ok' ], 'one more is refused');
is($app->query(q{SELECT resilience.retry('SELECT 1')})->{error}, undef, 'the default one stays');
$app->query("SELECT resilience.retry(\$\$DO \$x\$ BEGIN RAISE SQLSTATE 'Z" . sprintf('%04d', $_) . "'; END \$x\$\$\$, max_retries => 0)") for 1 .. 200;
cmp_ok($mon->value('SELECT count(DISTINCT sqlstate) FROM resilience.retry_stats'), '<=', 66, '200 made-up SQLSTATEs have as many rows as there is room for');

# --- locks

my $watcher = connect_to($node, user => 'watcher');
my $admin = monitor($node);
$admin->ok(q{SET statement_timeout = '20 s'});
$watcher->ok('BEGIN');
$watcher->ok("SELECT count(*) FROM resilience.$_")
  for map { $_->[0] } @{ $mon->query(q{SELECT relname FROM pg_class WHERE relnamespace = 'resilience'::regnamespace AND relkind = 'v'})->{rows} };
$app->ok('BEGIN');
$app->ok('SELECT resilience.my_bulkheads(), resilience.feature_enabled(\'x\'), resilience.health_status()');
$app->ok('SELECT pg_advisory_xact_lock(i) FROM generate_series(0, 100) i');
$admin->ok('BEGIN');
$admin->ok(q{SELECT resilience.alter_bulkhead('tenants', max_running => 3)});
is($mon->value(q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = } . $admin->{pid}), 0, 'a change takes no advisory lock');
$admin->ok('COMMIT');
pass('who has read all views and sits in a transaction keeps nobody from changing them');
$_->ok('ROLLBACK') for $watcher, $app;

# --- the file of limits

my $mode = sprintf '%04o', (stat($node->data_dir . '/resilience.snapshot'))[2] & 07777;
is($mode, '0600', 'the file of limits is for the server alone');

# --- probes of foreign servers: whoever may make a server sends them where he likes

my $asked = IO::Socket::INET->new(Listen => 10, LocalAddr => '127.0.0.1') or die "listen: $!";
my $port = $asked->sockport;
$mon->ok("CREATE SERVER trap FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '$port', dbname 'd', sslmode 'disable')");
$mon->ok("CREATE USER MAPPING FOR PUBLIC SERVER trap OPTIONS (user 'mapped', password '$secret')");

# Take one connection as a server that wants a password in clear text; what came.
sub take
{
	my ($what) = @_;
	my $got = '';

	IO::Select->new($asked)->can_read($ResilienceTest::timeout) or return fail("$what: nobody came");
	my $connection = $asked->accept;
	my $select = IO::Select->new($connection);
	my $answered = 0;
	while ($select->can_read(10))
	{
		my $bytes;
		last unless sysread($connection, $bytes, 8192);
		$got .= $bytes;
		if (!$answered++) { syswrite($connection, 'R' . pack('NN', 8, 3)) }
		else { last }
	}
	close $connection;
	like($got, qr/user\0resilience_probe\0/, "$what comes under a name of its own");
	unlike($got, qr/\Q$secret\E|mapped|by_service|geqo|\0\0p/, 'and brings nothing of anybody\'s credentials, or of the server\'s environment');
	return;
}

$mon->ok(q{SELECT resilience.create_health_check('trap', 'foreign_server', target => 'trap', check_interval => '1 h', timeout => '5 s', enabled => false)});
$app->close;
my $session = connect_to($node);
$session->send(q{SELECT status || ' ' || message FROM resilience.run_health_check('trap')});
take('a health check');
like($session->result->{rows}[0][0], qr/^healthy alive: password required/, 'for which a question is an answer');
$mon->ok(q{SELECT resilience.create_breaker('trap', server => 'trap', max_failures => 1, reset_timeout => '10 ms')});
$mon->ok('CREATE FOREIGN TABLE trapped (a int) SERVER trap');
$session->send('SELECT * FROM trapped');
my $call = $asked->accept;
close $call;    # the call fails, and the breaker opens
isnt($session->result->{error}, undef, 'a call that fails');
take('a probe');
wait_until('the breaker closes, or is asked again', sub { $mon->value(q{SELECT probe_total FROM resilience.breakers WHERE name = 'trap'}) > 0 });

# what postgres_fdw asks of a user's own connection stays
$mon->ok($_) for "CREATE SERVER peer FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '" . $node->host . "', port '" . $node->port . "', dbname 'postgres')",
  q{CREATE USER MAPPING FOR PUBLIC SERVER peer}, q{CREATE FOREIGN TABLE peered (datname name) SERVER peer OPTIONS (schema_name 'pg_catalog', table_name 'pg_database')},
  'GRANT SELECT ON peered TO app', q{SELECT resilience.create_breaker('peer', server => 'peer', call_timeout => '5 s')};
is(connect_to($node, user => 'app')->query('SELECT * FROM peered')->{error}{C}, '2F003', 'a guarded server is no way to come as the server itself');

for my $target ("host=127.0.0.1 port=$port password=x", "postgresql://127.0.0.1:$port/d", 'service=s', '/etc/passwd')
{
	is($mon->query("SELECT resilience.create_health_check('x', 'foreign_server', target => '$target')")->{error}{C}, '42704',
		"a target is the name of a server, not \"$target\"");
}
$mon->ok(q{CREATE SERVER by_service FOREIGN DATA WRAPPER postgres_fdw OPTIONS (service 's')});
is($mon->query(q{SELECT resilience.create_health_check('x', 'foreign_server', target => 'by_service')})->{error}{C}, '22023', 'nor one that names a service');
$mon->ok(q{GRANT EXECUTE ON FUNCTION resilience.create_health_check TO watcher});
is($watcher->query(q{SELECT resilience.create_health_check('x', 'disk_free', target => '/etc')})->{error}{C}, '42501', 'files elsewhere are not looked at');

$node->stop;
done_testing();
