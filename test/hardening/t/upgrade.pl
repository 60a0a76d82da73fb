# pg_upgrade from an older major version: the policies of every kind are there
# and in force when the new server runs, by copy, by --link, and when the
# library is preloaded only later.
#
#   RSL_OLD_INSTALL  where bin/pg_ctl and so on of the old version are, with
#                    the extension installed; PG_CONFIG is the new one

use strict;
use warnings;

use Cwd qw(getcwd);
use FindBin;
use lib "$FindBin::RealBin/../../perl";
use PolicyTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;
use Time::HiRes qw(time);

my $old_install = $ENV{RSL_OLD_INSTALL} or die 'RSL_OLD_INSTALL is not set';
my $new_bindir = qx('@{[ $ENV{PG_CONFIG} || 'pg_config' ]}' --bindir);
chomp $new_bindir;
my $dir = PostgreSQL::Test::Utils::tempdir();

# A server of the old version with policies in two databases
sub old_node
{
	my ($name) = @_;
	my $node = preloaded_node($name, new => { install_path => $old_install }, extension => 0, roles => [@policy_roles]);
	my $mon = monitor($node);

	create_policies($mon);
	$mon->ok('CREATE DATABASE other');
	my $other = monitor($node, dbname => 'other');
	$other->ok('CREATE EXTENSION resilience');
	$other->ok(q{SELECT resilience.create_feature('of another', enabled => false)});
	$_->close for ($mon, $other);
	return $node;
}

sub upgrade
{
	my ($old, $new, @options) = @_;
	my $here = getcwd();
	my $work = "$dir/" . $new->name . "@options";

	mkdir $work or die "mkdir: $!";
	chdir $work;
	$new->command_ok(
		[ 'pg_upgrade', '--no-sync', '-b', "$old_install/bin", '-B', $new_bindir, '-d', $old->data_dir, '-D', $new->data_dir,
			'-p', $old->port, '-P', $new->port, '-s', $new->host, '-U', $ResilienceTest::superuser, @options ],
		"pg_upgrade @options");
	chdir $here;
	return;
}

my %ways = (
	copy => [],
	link => ['--link'],
	'preloaded later' => []);
for my $way (sort keys %ways)
{
	my $name = $way =~ s/ .*//r;

	limit_seconds(300);
	my $old = old_node("old_$name");
	my $was = definitions_of($old);
	my $version = $old->safe_psql('postgres', 'SHOW server_version');
	behaviour_is($old, 'first', "$way: PostgreSQL $version lives by them");
	$old->stop;

	my $new = PostgreSQL::Test::Cluster->new("new_$name");
	$new->init;
	$new->append_conf('postgresql.conf', "shared_preload_libraries = 'resilience'\n") if $way ne 'preloaded later';
	upgrade($old, $new, '--check') if $way eq 'copy';
	upgrade($old, $new, @{ $ways{$way} });
	$new->start;
	if ($way eq 'preloaded later')
	{
		is(definitions_of($new), $was, "$way: the definitions are there");
		is(connect_refused($new, user => 'locked'), undef, "$way: not in force");
		$new->append_conf('postgresql.conf', "shared_preload_libraries = 'resilience'\n");
		$new->restart;
	}
	my $start = time();
	wait_behaviour($new, 'first', "$way: the policies are in force");
	diag(sprintf('%s: in force %.1f s after the start', $way, time() - $start));
	cmp_ok($new->safe_psql('postgres', 'SHOW server_version_num'), '>=', 160000, "$way: of the new server");
	is(definitions_of($new), $was, "$way: the definitions are the same");
	is($new->safe_psql('other', q{SELECT resilience.feature_enabled('of another')}), 'f', "$way: those of another database, too");

	my $mon = monitor($new);
	is($mon->value(q{SELECT extversion FROM pg_extension WHERE extname = 'resilience'}), '1.0', "$way: the extension is there");
	change_policies($mon);
	behaviour_is($new, 'second', "$way: they can be changed");
	all_zero($mon, $way);
	$mon->close;
	$new->stop('immediate');
	$new->start;
	behaviour_is($new, 'second', "$way: and survive a crash");
	$new->stop;

	# the old one was not touched
	next if $way ne 'copy';
	$old->start;
	behaviour_is($old, 'first', "$way: the old server lives by what it had");
	$old->stop;
}

done_testing();
