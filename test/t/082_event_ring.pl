# The ring of events: what is overwritten leaves a gap in the ids, writers side
# by side lose nothing else; the log has a line a second for each object.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(time sleep);

my $node = preloaded_node('ring', conf => "resilience.event_buffer = 16\n");
my $mon = monitor($node);
my $caller = connect_to($node);

sub ids { return map { $_->[0] } @{ $mon->ok('SELECT id FROM resilience.events ORDER BY id')->{rows} } }
sub last_event { return $mon->value('SELECT coalesce(max(id), 0) FROM resilience.events') }

#
# A small one
#
is(join(' ', ids()), '', 'no events at first');
$mon->ok(q{SELECT resilience.create_breaker('a', max_failures => 1, reset_timeout => '1 h', max_reset_timeout => '1 h')});
is(join(' ', ids()), '1', 'ids begin with 1');
my $open_and_close = q{SELECT resilience.breaker_record('%s', false); SELECT resilience.reset_breaker('%1$s')};
$caller->ok(sprintf($open_and_close, 'a')) for 1 .. 5;
is(join(' ', ids()), join(' ', 1 .. 11), 'without a gap while there is room');
$caller->ok(sprintf($open_and_close, 'a')) for 1 .. 5;
is(join(' ', ids()), join(' ', 6 .. 21), 'then the oldest are gone');
is($mon->value(q{SELECT string_agg(to_state, ' ' ORDER BY id) FROM resilience.events}), join(' ', ('open', 'closed') x 8), 'and the newest are there');

# so fast that neither the log nor anybody else follows
my $log = -s $node->logfile;
my $first = last_event();
$caller->ok(qq{DO \$\$ BEGIN FOR i IN 1 .. 1000 LOOP PERFORM resilience.breaker_record('a', false); PERFORM resilience.reset_breaker('a'); END LOOP; END \$\$});
is(last_event(), $first + 2000, 'all are counted');
is(scalar(ids()), 16, 'the newest are kept');
wait_until('the log says so', sub { slurp_file($node->logfile, $log) =~ /LOG:  more events than can be logged\n.*DETAIL:  lost=\d+ event_buffer=16/ });
pass('the log tells what it has missed');
$caller->close;
$mon->close;

#
# Many writers
#
$node->append_conf('postgresql.conf', "resilience.event_buffer = 5000\n");
$node->restart;
$mon = monitor($node);
my $writers = 24;
my $rounds = 100;
$mon->ok("SELECT resilience.create_breaker('w$_', max_failures => 1, reset_timeout => '1 h', max_reset_timeout => '1 h')") for 1 .. $writers;
sleep 1.2;
$log = -s $node->logfile;
$first = last_event();
my @callers = map { connect_to($node) } 1 .. $writers;
my $start = time();
for my $i (1 .. $writers)
{
	$callers[ $i - 1 ]->send(
		"DO \$\$ BEGIN FOR i IN 1 .. $rounds LOOP PERFORM resilience.breaker_record('w$i', false); PERFORM resilience.reset_breaker('w$i'); PERFORM pg_sleep(0.001); END LOOP; END \$\$");
}
error_is($_->result, 'no error', 'a writer') for @callers;
my $seconds = time() - $start;
is($mon->value(qq{SELECT count(*) FROM resilience.events WHERE kind = 'breaker' AND id > $first AND to_state IN ('open', 'closed')}), 2 * $rounds * $writers, 'nothing is lost');
is($mon->value(qq{SELECT count(*) = max(id) - min(id) + 1 AND min(id) = $first + 1 FROM resilience.events WHERE id > $first}), 't', 'no id is missing');
is($mon->value(qq{
SELECT count(*) FROM (SELECT object, to_state, lag(to_state) OVER (PARTITION BY object ORDER BY id) AS last_state, from_state
	FROM resilience.events WHERE id > $first AND kind = 'breaker') e
WHERE to_state = last_state OR last_state <> from_state}), 0, 'each from the state that the one before led to');
is($mon->value(qq{SELECT count(*) FROM resilience.events WHERE id > $first AND kind = 'breaker' AND NOT (detail ? 'reason')}), 0, 'all with their cause');

# A line a second for each, and each event is told or counted
wait_until('all are in the log', sub { logged_events() >= 2 * $rounds * $writers }, 20);
is(logged_events(), 2 * $rounds * $writers, 'each event is in the log or counted there');
my $text = slurp_file($node->logfile, $log);
my %lines;
$lines{$1}++ while $text =~ /LOG:  circuit breaker "(w\d+)" is /g;
is(scalar(keys %lines), $writers, 'each has its lines');
my ($most) = sort { $b <=> $a } values %lines;
note("$most lines at most in $seconds s");
cmp_ok($most, '<=', $seconds + 3, 'one a second at most');
unlike($text, qr/more events than can be logged/, 'nothing was lost');

# the last line has the last state
my ($last) = $text =~ /.*LOG:  circuit breaker "w1" is (\S+)\n/s;
is($last, 'closed', 'the last line has the last state');

sub logged_events
{
	my $n = 0;
	my $lines = slurp_file($node->logfile, $log);

	while ($lines =~ /LOG:  circuit breaker "w\d+" is \S+\n[^\n]*DETAIL: ([^\n]*)/g)
	{
		my $detail = $1;
		$n += 1 + ($detail =~ / suppressed=(\d+)/ ? $1 : 0);
	}
	return $n;
}

$_->close for @callers;
$mon->close;
unlike(slurp_file($node->logfile), qr/(?:PANIC|TRAP|terminated by signal)/, 'nothing crashed');
$node->stop;
done_testing();
