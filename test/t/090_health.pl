# The view "health": each kind of component gets degraded and comes back, and
# the server with it.  "since" is when the status began, and stays.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(sleep);

my $node = preloaded_node('health', roles => [qw(app bot watcher)]);
my $mon = monitor($node);

# Status of a component, its message, since when.
sub status
{
	return $mon->value("SELECT status FROM resilience.health WHERE component = '$_[0]'") // 'none';
}

sub message
{
	return $mon->value("SELECT message FROM resilience.health WHERE component = '$_[0]'") // '';
}

sub since
{
	return $mon->value("SELECT since FROM resilience.health WHERE component = '$_[0]'") // '';
}

sub wait_status
{
	my ($component, $status) = @_;

	my $now = wait_for_value($mon,
		"SELECT coalesce((SELECT status FROM resilience.health WHERE component = '$component'), 'none')", $status, 20);
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is($now, $status, "$component: $status");
}

sub clock { return $mon->value('SELECT clock_timestamp()') }
sub later { return $mon->value("SELECT '$_[0]'::timestamptz > '$_[1]'::timestamptz") eq 't' }

# Detail of the newest event of a kind, with states "from to"; or undef.
sub event
{
	my ($kind, $object, $states, $after) = @_;
	my ($from, $to) = split(' ', $states);

	return $mon->value(qq(
SELECT detail FROM resilience.events
WHERE kind = '$kind' AND object = '$object' AND from_state = '$from' AND to_state = '$to' AND id > $after
ORDER BY id DESC LIMIT 1));
}

sub last_event { return $mon->value('SELECT coalesce(max(id), 0) FROM resilience.events') }

# While the component is degraded the server is; nothing of that stays.
sub server_follows
{
	my ($label, $after, $component, $kind) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(wait_for_value($mon, q{SELECT status FROM resilience.health WHERE component = 'server'}, 'degraded', 20),
		'degraded', "$label: the server is degraded");
	is($mon->value('SELECT resilience.health_status()'), 'degraded', '... as health_status() says');
	my $detail = event('server', 'health', 'healthy degraded', $after) // '{}';
	is($mon->value("SELECT '$detail'::jsonb ->> 'component'"), $component, '... an event says by whom');
	is($mon->value("SELECT '$detail'::jsonb ->> 'kind'"), $kind, '... and of what kind that is');
	return;
}

# At first
wait_status('server', 'healthy');
is($mon->value(q{SELECT string_agg(component || ' ' || status, ', ' ORDER BY component)
	FROM resilience.health WHERE kind IN ('worker', 'load_shedder')}),
	'database workers healthy, launcher healthy, load_shedder healthy, prober healthy', 'all is well at first');
is($mon->value(q{SELECT component || ' ' || kind FROM resilience.health LIMIT 1}), 'server server', 'the server is the first row');
is($mon->value(q{SELECT count(*) FROM resilience.health WHERE since > clock_timestamp() OR since IS NULL}), 0, 'everything has its time');
is($mon->value(q{SELECT count(*) FROM resilience.events WHERE object = 'health'}), 0, 'a start without trouble is no event');

# Who may see what
my $watcher = connect_to($node, user => 'watcher');
error_is($watcher->query('SELECT * FROM resilience.health'), '42501', 'the view is not for everybody');
is($watcher->value('SELECT resilience.health_status()'), 'healthy', 'health_status() is');
$mon->ok('GRANT pg_monitor TO watcher');
error_is($watcher->query('SELECT * FROM resilience.health'), 'no error', 'the view is for pg_monitor');
$watcher->close;

# A bulkhead that is full is in use; one before which somebody waits is not
# enough.
$mon->ok(q{SELECT resilience.create_bulkhead('b', role_name => 'app', max_running => 1, max_waiting => 1, max_wait => '10 min')});
my ($runs, $waits) = map { connect_to($node, user => 'app') } 1, 2;
my $after = last_event();
$runs->hold;
wait_running($mon, 'b', 1);
sleep 1;
is(status('b'), 'healthy', 'a full bulkhead is healthy');
is($mon->value(q{SELECT database_name FROM resilience.health WHERE component = 'b'}), 'postgres', 'its database is told');
my $before = clock();
$waits->send('SELECT 1');
wait_status('b', 'degraded');
like(message('b'), qr/^saturated: limit=1 running=1 waiting=1/, 'its message has the numbers');
server_follows('bulkhead', $after, 'b', 'bulkhead');
my $since = since('b');
ok(later($since, $before), 'since then');
sleep 0.5;
is(since('b'), $since, '... which stays as it is');
$runs->let_go;
$runs->result;
error_is($waits->result, 'no error', 'the waiter runs');
$before = clock();
wait_status('b', 'healthy');
ok(later(since('b'), $since), 'its time is another one');
wait_status('server', 'healthy');
like(event('server', 'health', 'degraded healthy', $after) // '', qr/"component": "b"/, 'and the event says who has recovered');

# One refusal is enough, for a second
$runs->hold;
$waits->send('SELECT 1');
wait_waiting($mon, 'b', 1);
my $third = connect_to($node, user => 'app');
error_is($third->query('SELECT 1'), '53R01', 'a third one is refused');
wait_status('b', 'degraded');
$runs->let_go;
$runs->result;
$waits->result;
wait_status('b', 'healthy');

# What only observes, or admits none by command, is no trouble
$mon->ok(q{SELECT resilience.alter_bulkhead('b', mode => 'observe', max_waiting => 0)});
$runs->hold;
error_is($waits->query('SELECT 1'), 'no error', 'observed');
wait_until('the message says so', sub { message('b') =~ /^only observes/ }, 20);
is(status('b'), 'healthy', 'a bulkhead that only observes is healthy');
$runs->let_go;
$runs->result;
$mon->ok(q{SELECT resilience.alter_bulkhead('b', mode => 'enforce', max_running => 0)});
error_is($waits->query('SELECT 1'), '53R01', 'refused by command');
wait_until('the message says so', sub { message('b') =~ /^admits none/ }, 20);
is(status('b'), 'healthy', 'a bulkhead that is to admit none is healthy');
$mon->ok(q{SELECT resilience.drop_bulkhead('b')});
wait_status('b', 'none');

# Connections
$mon->ok(q{SELECT resilience.create_bulkhead('c', role_name => 'bot', max_connections => 1)});
my $bot = connect_to($node, user => 'bot');
wait_status('c', 'healthy');
is(connect_refused($node, user => 'bot')->{C}, '53300', 'a connection is refused');
wait_status('c', 'degraded');
like(message('c'), qr/connections=1 of 1/, 'with its numbers');
wait_status('c', 'healthy');
$bot->close;
$mon->ok(q{SELECT resilience.drop_bulkhead('c')});

# The load shedder
wait_status('server', 'healthy');
$after = last_event();
set_conf($mon, 'resilience.minimum_priority' => 'high');
error_is($runs->query('SELECT 1'), '53R02', 'shed');
wait_status('load_shedder', 'degraded');
like(message('load_shedder'), qr/^refused in the last second: 1; .*minimum_priority=high/, 'the message says how many');
server_follows('shedder', $after, 'load_shedder', 'load_shedder');
wait_status('load_shedder', 'healthy');
wait_for_value($mon, 'SELECT max(refused_per_second) > 0 FROM resilience.load_samples', 't', 20);
pass('a sample has it');
set_conf($mon, 'resilience.mode' => 'observe');
wait_until('the mode is told', sub { message('load_shedder') =~ /^resilience.mode is observe/ }, 20);
error_is($runs->query('SELECT 1'), 'no error', 'only observed');
wait_until('and what would have been', sub { message('load_shedder') =~ /would have refused 1 in/ }, 20);
is(status('load_shedder'), 'healthy', 'that is no trouble');
set_conf($mon, 'resilience.mode' => 'off');
wait_until('off is told, too', sub { message('load_shedder') =~ /^resilience.mode is off/ }, 20);
is(status('load_shedder'), 'healthy', 'nor is that');
set_conf($mon, 'resilience.mode' => undef, 'resilience.minimum_priority' => undef, 'resilience.max_running' => 1,
	'resilience.max_wait' => 60000);
$_->close for ($runs, $waits);
($runs, $waits) = map { connect_to($node, user => 'app') } 1, 2;
$runs->hold;
$waits->send('SELECT 1');
wait_waiting($mon, undef, 1);
sleep 1;
like(message('load_shedder'), qr/^loaded: waiting=1 limit=1/, 'a queue is told');
is(status('load_shedder'), 'healthy', '... and no trouble while nobody waits for long');
wait_for_value($mon, q{SELECT bool_or(running >= 1 AND waiting = 1 AND current_limit = 1 AND status = 'healthy') FROM resilience.load_samples}, 't', 20);
pass('samples show who runs and who waits');
set_conf($mon, 'resilience.max_wait' => 1000);
wait_status('load_shedder', 'degraded');
like(message('load_shedder'), qr/^long queue: waiting=1 limit=1, the longest wait is \d+ ms/, 'a long one is');
$runs->let_go;
$runs->result;
error_is($waits->result, 'no error', 'it is served');
wait_status('load_shedder', 'healthy');
set_conf($mon, 'resilience.max_running' => undef);

# Breakers
my $super = connect_to($node);    # not with the mode off
wait_status('server', 'healthy');
$mon->ok(q{SELECT resilience.create_breaker('br', max_failures => 1, reset_timeout => '1 s', jitter => 0, success_threshold => 1)});
wait_status('br', 'healthy');
$after = last_event();
$super->ok(q{SELECT resilience.breaker_acquire('br')});
$super->ok(q{SELECT resilience.breaker_record('br', false)});
wait_status('br', 'degraded');
like(message('br'), qr/^open: failures=1 /, 'why it is open');
server_follows('breaker', $after, 'br', 'breaker');
$since = since('br');
wait_until('it may be tried', sub { $super->value(q{SELECT resilience.breaker_acquire('br')}) eq 't' }, 20);
like(message('br'), qr/^half-open/, 'half-open ...');
is(status('br'), 'degraded', '... is degraded, too');
is(since('br'), $since, 'since it has been open');
$super->ok(q{SELECT resilience.breaker_record('br', true)});
wait_status('br', 'healthy');
$mon->ok(q{SELECT resilience.force_breaker('br', 'open')});
wait_status('br', 'degraded');
is(message('br'), 'open by force_breaker()', 'who has forced it');
$mon->ok(q{SELECT resilience.alter_breaker('br', mode => 'observe')});
wait_status('br', 'healthy');
like(message('br'), qr/only observed/, 'one that only observes is healthy');
$mon->ok(q{SELECT resilience.force_breaker('br', 'closed')});
is(message('br'), 'closed by force_breaker()', 'closed by force');
$mon->ok(q{SELECT resilience.drop_breaker('br')});
wait_status('br', 'none');
wait_status('server', 'healthy');

# A component that goes while it is degraded
$mon->ok(q{SELECT resilience.create_breaker('br')});
$mon->ok(q{SELECT resilience.force_breaker('br', 'open')});
wait_status('server', 'degraded');
$after = last_event();
$mon->ok(q{SELECT resilience.drop_breaker('br')});
wait_status('server', 'healthy');
like(event('server', 'health', 'degraded healthy', $after) // '', qr/is gone/, 'what was not healthy is gone');

# Features
$mon->ok(q{SELECT resilience.create_feature('f')});
wait_status('f', 'healthy');
$mon->ok(q{SELECT resilience.alter_feature('f', enabled => false)});
wait_until('the reason is told', sub { message('f') =~ /^off by command/ }, 20);
is(status('f'), 'healthy', 'a feature that is off by command is healthy');
$mon->ok(q{SELECT resilience.set_feature('f', true)});
wait_until('on again', sub { message('f') eq '' }, 20);
$after = last_event();
$mon->ok(q{SELECT resilience.alter_feature('f', expires_at => clock_timestamp() + '0.5 s')});
wait_status('f', 'degraded');
like(message('f'), qr/^off: .*expired/, 'one that has expired is not');
server_follows('feature', $after, 'f', 'feature');
$mon->ok(q{SELECT resilience.drop_feature('f')});
wait_status('server', 'healthy');
$mon->ok(q{SELECT resilience.create_breaker('far away')});
$mon->ok(q{SELECT resilience.create_feature('f', breaker => 'far away', failure_threshold => 1, success_threshold => 1, min_degraded_duration => '0 s')});
$mon->ok(q{SELECT resilience.force_breaker('far away', 'open')});
wait_status('f', 'degraded');
like(message('f'), qr/^degraded: .*far away/, 'one that is coupled to an open breaker is degraded, and says why');

# A degradation that holds because the server is degraded does not keep it so
$mon->ok(q{SELECT resilience.create_degradation('d', 'degraded', 'low', '{"work_mem": "1MB"}')});
wait_status('d', 'degraded');
like(message('d'), qr/^holds \(degraded\): /, 'it says that it holds');
$mon->ok(q{SELECT resilience.force_breaker('far away', 'auto')});
wait_status('far away', 'healthy');
wait_status('server', 'healthy');
wait_status('d', 'healthy');
$mon->ok(q{SELECT resilience.drop_degradation('d')});
$mon->ok(q{SELECT resilience.drop_feature('f')});
$mon->ok(q{SELECT resilience.drop_breaker('far away')});

# One that holds because of the load is a reason by itself
wait_status('server', 'healthy');
$mon->ok(q{SELECT resilience.create_degradation('d', 'loaded', 'low', '{"work_mem": "1MB"}')});
wait_status('d', 'healthy');
$after = last_event();
set_conf($mon, 'resilience.max_running' => 1, 'resilience.max_wait' => 60000);
$runs->hold;
$waits->send('SELECT 1');
wait_status('d', 'degraded');
server_follows('degradation', $after, 'd', 'degradation');
$runs->let_go;
$runs->result;
$waits->result;
wait_status('d', 'healthy');
set_conf($mon, 'resilience.max_running' => undef, 'resilience.max_wait' => undef);
$mon->ok(q{SELECT resilience.drop_degradation('d')});

# Other databases' components are shown, too
$mon->ok('CREATE DATABASE other');
my $other = monitor($node, dbname => 'other');
$other->ok('CREATE EXTENSION resilience');
$other->ok(q{SELECT resilience.create_breaker('far')});
$other->ok(q{SELECT resilience.force_breaker('far', 'open')});
wait_status('far', 'degraded');
is($mon->value(q{SELECT database_name FROM resilience.health WHERE component = 'far'}), 'other', 'with their database');
wait_for_value($other, 'SELECT resilience.health_status()', 'degraded', 20);
pass('the status is that of the whole server');
$other->close;
$mon->ok('DROP DATABASE other');
wait_status('far', 'none');
wait_status('server', 'healthy');

# It answers while nobody else gets in
set_conf($mon, 'resilience.max_running' => 1, 'resilience.max_waiting' => 0);
$runs->hold;
error_is($waits->query('SELECT 1'), '53R02', 'the server is full');
wait_for_value($mon, 'SELECT resilience.health_status()', 'degraded');
pass('health_status() answers');
$runs->let_go;
$runs->result;
wait_status('server', 'healthy');

$_->close for ($runs, $waits, $third, $super);
all_zero($mon, 'at the end');
$mon->close;
$node->stop;
done_testing();
