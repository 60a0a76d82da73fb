# A preview says what the same bulkhead counts in observe mode, and about what
# it refuses in enforce mode, under the same steady load.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use List::Util qw(sum);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(time sleep);

my $node = preloaded_node('preview', roles => [ 'app', 'batch' ], conf => 'compute_query_id = on');
my $mon = monitor($node);
my @preview_columns = qw(arrivals admitted queued refused refused_rate enforced_refused_rate
  mean_concurrency max_concurrency connection_arrivals refused_connections max_sessions sessions_now samples);

sub preview
{
	my ($arguments, $over) = @_;
	my $row = $mon->ok('SELECT ' . join(', ', @preview_columns)
		  . " FROM resilience.preview_bulkhead('b', $arguments, over => '$over s')")->{rows}[0];
	my %preview;

	@preview{@preview_columns} = @$row;
	note(join ', ', map { "$_ $preview{$_}" } @preview_columns);
	return \%preview;
}

# Sessions that run for about 40 ms and think for about 40 ms, exponentially
# distributed, for so many seconds.  A refused one thinks, too.  Returns how
# many were sent and refused.
sub load_for
{
	my ($seconds, @sessions) = @_;
	my $end = time() + $seconds;
	my ($sent, $refused) = (0, 0);
	my $mean = 0.04;

	$_->{due} = time() - $mean * log(1 - rand()) for @sessions;
	while (1)
	{
		my $now = time();
		my $busy = 0;

		for my $session (@sessions)
		{
			if ($session->{busy})
			{
				$busy++;
				next unless $session->done;
				$refused++ if $session->result->{error};
				$session->{busy} = 0;
				$session->{due} = $now - $mean * log(1 - rand());
			}
			elsif ($now >= $session->{due} && $now < $end)
			{
				$session->send(sprintf 'SELECT pg_sleep(%.4f)', -$mean * log(1 - rand()));
				$session->{busy} = 1;
				$sent++;
			}
		}
		last if $now >= $end && !$busy;
		sleep 0.002;
	}
	return ($sent, $refused);
}

# Two runs of a load at random, one of them seen in a hundred pictures: 0.06 is
# usual.
sub close_to
{
	my ($got, $expected, $label) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok(abs($got - $expected) <= 0.18, sprintf('%s: %.3f, not far from %.3f', $label, $got, $expected));
}

my @batch = map { connect_to($node, user => 'batch') } 1 .. 12;
my @app = map { connect_to($node, user => 'app', application_name => 'web') } 1 .. 4;
wait_until('the launcher has seen the sessions',
	sub { preview("role_name => 'batch'", 60)->{max_sessions} == 12 });

# Nothing has run yet
my $preview = preview(q{role_name => 'batch', max_running => 1}, 60);
is($preview->{arrivals}, 0, 'no arrivals before the load');
is($preview->{sessions_now}, 12, 'the sessions of now');

# Preview of the load as it was, then the same rule observed and enforced
my $begun = time();
my ($sent) = load_for(10, @batch, @app);
my $over = time() - $begun;
my $rule = q{role_name => 'batch', max_running => 5, max_waiting => 1, max_wait => '1 s'};
my $all = 0;
wait_until('all of it is in the history', sub {
	$all = sum(map { preview("role_name => '$_'", $over + 1)->{arrivals} } qw(batch app));
	$all >= $sent;
});
is($all, $sent, 'every transaction is in the history');
$preview = preview($rule, $over);
is($preview->{arrivals}, $preview->{admitted} + $preview->{queued} + $preview->{refused}, 'numbers add up');
cmp_ok(abs($preview->{arrivals} / $sent - 12 / 16), '<', 0.06, 'those of the role');
cmp_ok($preview->{max_concurrency}, '<=', 12, 'no more at once than there are sessions');
cmp_ok($preview->{max_concurrency}, '>=', 7, 'about as many as there were');

$mon->ok("SELECT resilience.create_bulkhead('b', $rule, mode => 'observe')");
load_for(10, @batch, @app);
my ($admitted, $refused) = @{ $mon->ok(q{SELECT admitted_total, refused_statements_total
	FROM resilience.bulkheads WHERE name = 'b'})->{rows}[0] };
close_to($preview->{refused_rate}, $refused / $admitted, 'refused, as observe mode counts');

$mon->ok(q{SELECT resilience.alter_bulkhead('b', mode => 'enforce')});
my ($sent_batch, $refused_batch) = load_for(10, @batch);
close_to($preview->{enforced_refused_rate}, $refused_batch / $sent_batch, 'refused, as enforce mode does');
$mon->ok(q{SELECT resilience.drop_bulkhead('b')});

# What cannot be is not predicted
$preview = preview(q{role_name => 'batch', max_running => 12}, $over * 3 + 10);
is($preview->{refused} + $preview->{queued}, 0, 'a limit that nobody reaches refuses nobody');
$preview = preview(q{role_name => 'batch', max_running => 0}, $over * 3 + 10);
is($preview->{refused}, $preview->{arrivals}, 'a limit of 0 refuses everybody');

# Conditions
sub arrivals { return preview($_[0], 300)->{arrivals} }
my $batch = arrivals(q{role_name => 'batch'});
my $app = arrivals(q{role_name => 'app'});
cmp_ok($app, '>', 100, 'the other role');
is(arrivals(q{application_name => 'we%'}), $app, 'application_name is a pattern');
is(arrivals(q{application_name => 'other'}), 0, '... that need not match');
is(arrivals(q{client_address => '10.0.0.0/8'}), 0, 'nobody came from there');
is(arrivals(q{command => 'SELECT'}), $batch + $app, 'all were SELECTs');
is(arrivals(q{command => 'UPDATE'}), 0, 'none was an UPDATE');
$mon->ok('CREATE ROLE team; GRANT team TO batch');
is(arrivals(q{role_name => 'team'}), $batch, 'members of a role');
my $query_id = $mon->value(q{SELECT query_id FROM pg_stat_activity WHERE usename = 'batch' LIMIT 1});
is(arrivals("query_id => $query_id"), $batch + $app, 'a query');
is(arrivals('query_id => 42'), 0, 'another one');
is(scalar(@{ $mon->ok("SELECT resilience.preview_bulkhead('b', query_id => 42)")->{notices} }), 1,
	'... of which the history knows nothing, with a warning');

# application_name changes, and is known as it was then
$app[0]->ok(q{SET application_name = 'report'; SELECT 1});
wait_until('the new name is in the history', sub { arrivals(q{application_name => 'report'}) == 1 });

# Long work, when the load is past: 6 at once, of which a limit of 2 with 1 waiting would refuse 3
sleep 2;
$_->send('SELECT pg_sleep(30)') for @batch[ 0 .. 5 ];
wait_until('they run', sub {
	$mon->value(q{SELECT count(*) FROM pg_stat_activity WHERE usename = 'batch' AND state = 'active'}) == 6;
});
my $long;
wait_until('they have run for a while', sub {
	$long = preview(q{role_name => 'batch', command => 'SELECT', max_running => 2, max_waiting => 1}, 3);
	$long->{arrivals} == 6 && $long->{mean_concurrency} > 3;
});
is($long->{max_concurrency}, 6, 'six at once');
is("$long->{admitted}/$long->{queued}/$long->{refused}", '2/1/3',
	'of work that takes long each arrival is judged by what it found');
$_->cancel, $_->result for @batch[ 0 .. 5 ];

# Superusers are counted, but never refused
my $super = connect_to($node, application_name => 'dba');
$super->ok('SELECT pg_sleep(0.3)') for 1 .. 3;
wait_until('that is in the history', sub { arrivals(q{application_name => 'dba'}) == 3 });
$preview = preview(q{application_name => 'dba', max_running => 0}, 300);
is("$preview->{admitted}/$preview->{refused}", '3/0', 'superusers are not refused');

# Connections: 5 come at once beside a limit of 3
my @web = map { connect_to($node, user => 'app', application_name => 'burst') } 1 .. 5;
wait_until('they are in the history',
	sub { preview(q{application_name => 'burst', max_connections => 3}, 300)->{connection_arrivals} == 5 });
is(preview(q{application_name => 'burst', max_connections => 3}, 300)->{refused_connections}, 2,
	'two connections would have been refused');

# Nothing was changed, and it needs a privilege
is($mon->value('SELECT count(*) FROM resilience.bulkheads'), 0, 'a preview makes no bulkhead');
error_is($app[0]->query(q{SELECT resilience.preview_bulkhead('b')}), '42501', 'not for everybody');
$mon->ok('GRANT EXECUTE ON FUNCTION resilience.preview_bulkhead TO app');
error_is($app[0]->query(q{SELECT resilience.preview_bulkhead('b')}), 'no error', 'but for whoever is granted it');
error_is($app[0]->query(q{SELECT resilience.preview_bulkhead('b', database_name => '*')}), '42501',
	'other databases are the superuser\'s');

# Without a history
$node->append_conf('postgresql.conf', 'resilience.history_size = 0');
$node->restart;
$mon = monitor($node);
error_is($mon->query(q{SELECT resilience.preview_bulkhead('b')}), '55000', 'no history, no preview');

done_testing();
