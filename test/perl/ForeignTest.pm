# What the tests of circuit breakers share: a server with foreign servers on
# other clusters, and ways to break those.

package ForeignTest;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ResilienceTest;
use Test::More;

our @EXPORT = qw(
  far_node foreign_server breaker connections_received freeze thaw listen_silently
);

my @frozen;

# A cluster to be called, with the table t (1000 rows).
sub far_node
{
	my ($name, %params) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init(%{ $params{init} || {} });
	$node->append_conf('postgresql.conf',
		"log_connections = on\nlog_min_messages = warning\nautovacuum = off\n" . ($params{conf} // ''));
	$node->start;
	$node->safe_psql('postgres', q{CREATE TABLE t AS SELECT i AS id, 'far' || i AS v FROM generate_series(1, 1000) i;
		ALTER TABLE t ADD PRIMARY KEY (id)});
	return $node;
}

# A foreign server on it, with a foreign table of the same name as the server
# plus "_t" for the table t.
sub foreign_server
{
	my ($session, $name, $far, %options) = @_;
	my %all = (host => $far->host, port => $far->port, dbname => 'postgres', %options);
	my $list = join(', ', map { "$_ '$all{$_}'" } sort keys %all);

	$session->ok("CREATE SERVER $name FOREIGN DATA WRAPPER postgres_fdw OPTIONS ($list)");
	$session->ok("CREATE USER MAPPING FOR PUBLIC SERVER $name OPTIONS (user 'postgres', password_required 'false')");
	$session->ok("CREATE FOREIGN TABLE ${name}_t (id int, v text) SERVER $name OPTIONS (table_name 't')");
	$session->ok("GRANT ALL ON ${name}_t TO PUBLIC");
	return;
}

# Columns of the view, as text with spaces between them.
sub breaker
{
	my ($mon, $name, $columns) = @_;
	my $list = join(', ', map { "coalesce($_\::text, '-')" } split(/ /, $columns));

	return $mon->value("SELECT concat_ws(' ', $list) FROM resilience.breakers WHERE name = '$name'");
}

sub connections_received
{
	my ($far) = @_;

	return scalar(() = slurp_file($far->logfile) =~ /connection received/g);
}

# Stop all processes of a cluster, so that it is silent, and let them go on.
sub freeze
{
	my ($far) = @_;
	my $postmaster = $far->{_pid};
	my @pids = ($postmaster, split(' ', `pgrep -P $postmaster` // ''));

	kill 'STOP', @pids;
	push @frozen, @pids;
	return;
}

sub thaw
{
	kill 'CONT', reverse @frozen;
	@frozen = ();
	return;
}

# A port on which connections are accepted by the kernel, and never answered.
sub listen_silently
{
	my ($port) = @_;
	require IO::Socket::INET;

	return IO::Socket::INET->new(LocalAddr => '127.0.0.1', ($port ? (LocalPort => $port) : ()), Listen => 100, ReuseAddr => 1)
	  || ResilienceTest::give_up("cannot listen: $!");
}

END { kill 'CONT', @frozen if @frozen; }

1;
