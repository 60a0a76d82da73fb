#!/usr/bin/env perl
#
# curve_svg.pl DATA.tsv PICTURE.svg MACHINE WORKLOAD=TITLE...
#
# Draws throughput over the number of clients, one panel for each workload:
# the picture of the collapse, and of what a limit does about it.  No modules,
# because a bare Debian has none.

use strict;
use warnings;

my ($data, $picture, $machine, @titles) = @ARGV;
die "usage: curve_svg.pl DATA.tsv PICTURE.svg MACHINE WORKLOAD=TITLE...\n"
  unless @titles;

# Colours that stay apart for colour-blind readers and in grey.
my @systems = (
	[ 'res', 'resilience, fixed limit', '#0b5fa5', '2.6', '' ],
	[ 'adaptive', 'resilience, adaptive limit', '#2f9e6e', '2.6', '' ],
	[ 'plain', 'plain PostgreSQL', '#c4421a', '2.2', '' ],
	[ 'pgbouncer', 'PgBouncer', '#6b6b6b', '1.8', '5 4' ]);

my (%tps, %clients, %seen);
open(my $in, '<', $data) or die "$data: $!\n";
while (my $line = <$in>)
{
	chomp $line;
	my ($workload, $system, $n, $tps) = split /\t/, $line;
	next if $workload eq 'workload';
	next unless defined $tps && $tps =~ /^[0-9.]+$/;
	$tps{$workload}{$system}{$n} = $tps;
	$clients{$n} = 1;
	$seen{$system} = 1;
}
close $in;
my @clients = sort { $a <=> $b } keys %clients;
die "$data: no figures\n" unless @clients;
@systems = grep { $seen{ $_->[0] } } @systems;

sub log2 { return log($_[0]) / log(2); }

# A step that gives three to six round ticks.
sub nice_step
{
	my ($max) = @_;
	my $power = 10**int(log($max) / log(10));
	for my $step (0.1, 0.2, 0.25, 0.5, 1, 2, 2.5, 5)
	{
		return $step * $power if $max / ($step * $power) <= 5;
	}
	return 10 * $power;
}

sub tick_label
{
	my ($v) = @_;
	return '0' if $v == 0;
	return sprintf('%gk', $v / 1000) if $v >= 1000;
	return sprintf('%g', $v);
}

sub escape
{
	my ($s) = @_;
	$s =~ s/&/&amp;/g;
	$s =~ s/</&lt;/g;
	$s =~ s/>/&gt;/g;
	return $s;
}

my ($panel_w, $panel_h, $left, $top, $gap) = (290, 220, 62, 122, 62);
my $width = $left + @titles * $panel_w + (@titles - 1) * $gap + 24;
my $height = $top + $panel_h + 84;
my $svg = '';

sub text
{
	my ($x, $y, $anchor, $size, $colour, $s, $more) = @_;
	$svg .= sprintf(
		"<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" font-size=\"%g\" fill=\"%s\"%s>%s</text>\n",
		$x, $y, $anchor, $size, $colour, $more ? " $more" : '', escape($s));
	return;
}

sub line
{
	my ($x1, $y1, $x2, $y2, $colour, $w, $more) = @_;
	$svg .= sprintf(
		"<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\" stroke-width=\"%g\"%s/>\n",
		$x1, $y1, $x2, $y2, $colour, $w, $more ? " $more" : '');
	return;
}

text($left, 34, 'start', 18, '#111111', 'Throughput past the peak', 'font-weight="bold"');
text($left, 55, 'start', 12, '#444444',
	'pgbench transactions per second by number of clients (medians of interleaved rounds; each panel has its own scale)');

# legend
my $x = $left;
for my $s (@systems)
{
	my ($key, $name, $colour, $w, $dash) = @$s;
	line($x, 76, $x + 26, 76, $colour, $w, $dash ? "stroke-dasharray=\"$dash\"" : '');
	text($x + 33, 80, 'start', 12, '#111111', $name);
	$x += 60 + 7 * length($name);
}

my $panel = 0;
for my $t (@titles)
{
	my ($workload, $title) = split /=/, $t, 2;
	my $x0 = $left + $panel * ($panel_w + $gap);
	my $y0 = $top + $panel_h;
	my $max = 1;
	for my $system (values %{ $tps{$workload} })
	{
		for my $v (values %$system) { $max = $v if $v > $max; }
	}
	my $step = nice_step($max);
	my $ceiling = $step * int($max / $step + 0.999);
	my ($lo, $hi) = (log2($clients[0]), log2($clients[-1]));
	$hi = $lo + 1 if $hi == $lo;
	my $px = sub { return $x0 + (log2($_[0]) - $lo) / ($hi - $lo) * $panel_w; };
	my $py = sub { return $y0 - $_[0] / $ceiling * $panel_h; };

	text($x0, $top - 8, 'start', 13, '#111111', $title, 'font-weight="bold"');
	for (my $v = 0; $v <= $ceiling + $step / 2; $v += $step)
	{
		line($x0, $py->($v), $x0 + $panel_w, $py->($v), $v == 0 ? '#444444' : '#dddddd', 1);
		text($x0 - 8, $py->($v) + 4, 'end', 11, '#444444', tick_label($v));
	}
	for my $n (@clients)
	{
		line($px->($n), $y0, $px->($n), $y0 + 4, '#444444', 1);
		text($px->($n), $y0 + 18, 'middle', 11, '#444444', $n);
	}
	text($x0 + $panel_w / 2, $y0 + 38, 'middle', 12, '#444444', 'clients');
	if ($panel == 0)
	{
		my ($lx, $ly) = (16, $top + $panel_h / 2);
		text($lx, $ly, 'middle', 12, '#444444', 'transactions/s', "transform=\"rotate(-90 $lx $ly)\"");
	}

	# the most important line last, on top
	for my $s (reverse @systems)
	{
		my ($key, $name, $colour, $w, $dash) = @$s;
		my $points = $tps{$workload}{$key} or next;
		my @n = grep { defined $points->{$_} } @clients;
		$svg .= sprintf(
			"<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"%s\" stroke-linejoin=\"round\"%s points=\"%s\"/>\n",
			$colour, $w, $dash ? " stroke-dasharray=\"$dash\"" : '',
			join(' ', map { sprintf('%.1f,%.1f', $px->($_), $py->($points->{$_})) } @n));
		for my $n (@n)
		{
			$svg .= sprintf("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%g\" fill=\"%s\"><title>%s, %d clients: %.0f TPS</title></circle>\n",
				$px->($n), $py->($points->{$n}), $key eq 'pgbouncer' ? 2 : 3, $colour, escape($name), $n, $points->{$n});
		}
	}
	$panel++;
}
text($left, $height - 14, 'start', 10.5, '#666666', $machine);

open(my $out, '>', $picture) or die "$picture: $!\n";
print $out <<"END";
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 $width $height" width="$width" height="$height" font-family="Helvetica, Arial, sans-serif" role="img" aria-label="Throughput by number of clients">
<rect width="$width" height="$height" fill="#ffffff"/>
$svg</svg>
END
close $out or die "$picture: $!\n";
