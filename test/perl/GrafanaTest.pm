# Would Grafana take a dashboard, and show something?  There is no Grafana in
# Debian: this asks for what its published model of dashboards does (fields,
# their types and values, schema version 36 and above), and for what the model
# leaves to the author: panels that do not overlap, one data source, variables
# that exist, expressions that Prometheus understands, metrics that are there.

package GrafanaTest;

use strict;
use warnings;

use B ();
use Exporter 'import';
use JSON::PP;
use PostgreSQL::Test::Utils;
use PrometheusTest;

our @EXPORT = qw(dashboard_problems dashboard_panels dashboard_targets plain_expr);

# Variables that Grafana itself has
my %built_in = map { $_ => 1 } qw(__rate_interval __interval __range __all __from __to);

# Options that each type of panel has to have, with what they may be.
my %legend = (displayMode => [qw(list table hidden)], placement => [qw(bottom right)], showLegend => 'bool');
my %tooltip = (mode => [qw(single multi none)], sort => [qw(none asc desc)]);
my %panel_options = (
	stat => {
		colorMode => [qw(value background background_solid none)],
		graphMode => [qw(none line area)],
		justifyMode => [qw(auto center)],
		textMode => [qw(auto value value_and_name name none)],
		orientation => [qw(auto vertical horizontal)],
		showPercentChange => 'bool',
		wideLayout => 'bool',
		reduceOptions => { calcs => 'strings', values => 'bool', fields => 'string' }
	},
	timeseries => { legend => \%legend, tooltip => \%tooltip },
	'state-timeline' => {
		legend => \%legend,
		tooltip => \%tooltip,
		showValue => [qw(auto never always)],
		rowHeight => 'number',
		mergeValues => 'bool',
		alignValue => [qw(center left right)]
	});

# The same of fieldConfig.defaults.custom, all of which may be missing
my %panel_custom = (
	stat => {},
	timeseries => {
		drawStyle => [qw(line bars points)],
		lineInterpolation => [qw(linear smooth stepBefore stepAfter)],
		lineWidth => 'number',
		fillOpacity => 'number',
		showPoints => [qw(auto never always)],
		spanNulls => 'bool',
		stacking => { mode => [qw(none normal percent)], group => 'string' }
	},
	'state-timeline' => { lineWidth => 'number', fillOpacity => 'number' });

my %dashboard_fields = (
	uid => 'string', title => 'string', description => 'string', tags => 'strings', style => [qw(light dark)],
	timezone => 'string', editable => 'bool', graphTooltip => [ 0, 1, 2 ], schemaVersion => 'number',
	version => 'number', refresh => 'string', time => { from => 'string', to => 'string' }, timepicker => 'object',
	templating => 'object', annotations => 'object', panels => 'array', links => 'array', id => 'null',
	fiscalYearStartMonth => 'number', liveNow => 'bool', weekStart => 'string');

my %panel_fields = map { $_ => 1 }
  qw(type id title description datasource gridPos targets fieldConfig options transparent transformations links repeat
  repeatDirection maxDataPoints interval timeFrom timeShift pluginVersion);

sub is_number
{
	my ($value) = @_;

	return 0 if !defined $value || ref $value;
	return (B::svref_2object(\$value)->FLAGS & (B::SVf_IOK | B::SVf_NOK)) && !(B::svref_2object(\$value)->FLAGS & B::SVf_POK);
}

# Is a value of that type, one of those, or an object with these fields?
sub type_problem
{
	my ($value, $type, $where) = @_;

	if (ref $type eq 'ARRAY')
	{
		return if defined $value && !ref $value && grep { $_ eq $value } @$type;
		return "$where is not one of @$type";
	}
	if (ref $type eq 'HASH')
	{
		return "$where is no object" unless ref $value eq 'HASH';
		return map { type_problem($value->{$_}, $type->{$_}, "$where.$_") } sort keys %$type;
	}
	my $ok =
		$type eq 'bool' ? JSON::PP::is_bool($value)
	  : $type eq 'number' ? is_number($value)
	  : $type eq 'string' ? defined $value && !ref $value && !is_number($value)
	  : $type eq 'strings' ? ref $value eq 'ARRAY' && !grep { ref $_ || is_number($_) } @$value
	  : $type eq 'array' ? ref $value eq 'ARRAY'
	  : $type eq 'object' ? ref $value eq 'HASH'
	  : $type eq 'null' ? !defined $value
	  : 0;
	return $ok ? () : "$where is no $type";
}

# Panels, those within collapsed rows, too.
sub dashboard_panels
{
	my ($dashboard) = @_;

	return map { ($_, @{ $_->{panels} // [] }) } @{ $dashboard->{panels} };
}

sub dashboard_targets
{
	my ($dashboard) = @_;

	return map { @{ $_->{targets} // [] } } dashboard_panels($dashboard);
}

# An expression with the variables as Grafana would set them to "All".
sub plain_expr
{
	my ($expr, $interval) = @_;

	$expr =~ s/\$__rate_interval/$interval/g;
	$expr =~ s/\$(job|instance|database)\b/.*/g;
	return $expr;
}

sub datasource_problem
{
	my ($datasource, $where) = @_;

	return if ref $datasource eq 'HASH' && ($datasource->{type} // '') eq 'prometheus' && ($datasource->{uid} // '') eq '${datasource}';
	return "$where: another data source than the variable";
}

sub grid_problems
{
	my (@panels) = @_;
	my %taken;
	my @problems;

	for my $panel (@panels)
	{
		my $where = "panel $panel->{id}";
		my $pos = $panel->{gridPos};
		my @wrong = type_problem($pos, { map { $_ => 'number' } qw(x y w h) }, "$where: gridPos");

		push @problems, @wrong;
		next if @wrong;
		push @problems, "$where: outside of the 24 columns"
		  if $pos->{x} < 0 || $pos->{w} < 1 || $pos->{h} < 1 || $pos->{y} < 0 || $pos->{x} + $pos->{w} > 24;
		push @problems, "$where: a row takes one line" if $panel->{type} eq 'row' && ($pos->{h} != 1 || $pos->{w} != 24);
		for my $x ($pos->{x} .. $pos->{x} + $pos->{w} - 1)
		{
			for my $y ($pos->{y} .. $pos->{y} + $pos->{h} - 1)
			{
				my $other = $taken{"$x,$y"};

				push @problems, "$where: overlaps panel $other" if $other && !grep { /^$where: overlaps/ } @problems;
				$taken{"$x,$y"} = $panel->{id};
			}
		}
	}
	return @problems;
}

sub field_problems
{
	my ($panel, $where) = @_;
	my $config = $panel->{fieldConfig};
	my @problems = type_problem($config, { defaults => 'object', overrides => 'array' }, "$where: fieldConfig");

	return @problems if @problems;
	my $defaults = $config->{defaults};
	push @problems, type_problem($defaults->{unit}, 'string', "$where: unit") if exists $defaults->{unit};
	push @problems, type_problem($defaults->{$_}, 'number', "$where: $_") for grep { exists $defaults->{$_} } qw(min max decimals);
	push @problems,
	  type_problem($defaults->{color}, { mode => [qw(thresholds palette-classic palette-saturated continuous-GrYlRd fixed)] }, "$where: color");
	if (my $thresholds = $defaults->{thresholds})
	{
		my @steps = @{ $thresholds->{steps} // [] };

		push @problems, type_problem($thresholds->{mode}, [qw(absolute percentage)], "$where: thresholds.mode");
		push @problems, "$where: thresholds do not begin with null" unless @steps && !defined $steps[0]{value};
		push @problems, "$where: thresholds are not in order"
		  if grep { !is_number($steps[$_]{value}) || $_ > 1 && $steps[$_]{value} <= $steps[ $_ - 1 ]{value} } 1 .. $#steps;
		push @problems, map { type_problem($_->{color}, 'string', "$where: threshold's color") } @steps;
	}
	elsif ($defaults->{color} && ($defaults->{color}{mode} // '') eq 'thresholds')
	{
		push @problems, "$where: colours by thresholds, and there are none";
	}
	for my $mapping (@{ $defaults->{mappings} // [] })
	{
		push @problems, type_problem($mapping->{type}, ['value'], "$where: mapping");
		push @problems, map { type_problem($_, { text => 'string', color => 'string', index => 'number' }, "$where: mapping") }
		  values %{ $mapping->{options} // {} };
	}
	for my $name (sort keys %{ $defaults->{custom} // {} })
	{
		my $type = $panel_custom{ $panel->{type} }{$name};

		push @problems, $type ? type_problem($defaults->{custom}{$name}, $type, "$where: custom.$name") : "$where: custom.$name is unknown";
	}
	for my $override (@{ $config->{overrides} })
	{
		push @problems, type_problem($override->{matcher}, { id => [qw(byName byRegexp byFrameRefID byType)], options => 'string' }, "$where: override");
		push @problems, map { type_problem($_->{id}, 'string', "$where: override") } @{ $override->{properties} };
	}
	return @problems;
}

sub target_problems
{
	my ($panel, $where) = @_;
	my @problems;
	my %seen;

	push @problems, "$where: no targets" unless @{ $panel->{targets} // [] };
	for my $target (@{ $panel->{targets} // [] })
	{
		my $here = "$where, target " . ($target->{refId} // '?');

		push @problems, "$here: refId is missing or there twice" if !defined $target->{refId} || $seen{ $target->{refId} }++;
		push @problems, datasource_problem($target->{datasource}, $here);
		push @problems, type_problem($target, { expr => 'string', legendFormat => 'string', range => 'bool', editorMode => [qw(code builder)] }, $here);
		push @problems, "$here: neither an instant query nor one over time" unless $target->{instant} || $target->{range};
	}
	return @problems;
}

# Expressions that Prometheus does not understand: promtool reads rules only,
# so each becomes one.
sub expression_problems
{
	my (@exprs) = @_;
	my $file = PostgreSQL::Test::Utils::tempdir() . '/exprs.yml';
	my $rules = "groups:\n  - name: dashboard\n    rules:\n";

	for my $i (0 .. $#exprs)
	{
		$rules .= "      - record: expr_$i\n        expr: " . JSON::PP->new->allow_nonref->encode(plain_expr($exprs[$i], '5m')) . "\n";
	}
	append_to_file($file, $rules);
	my ($ok, $out) = promtool('check', 'rules', $file);
	unlink $file;
	return $ok ? () : "promtool: $out";
}

# All that is wrong with a dashboard, as text.
#   metrics => what metric_names() found in a live server's exposition
sub dashboard_problems
{
	my ($text, %params) = @_;
	my $dashboard = eval { JSON::PP->new->utf8->decode($text) };
	my @problems;
	my (%ids, %names, %defined);

	return "no JSON: $@" unless ref $dashboard eq 'HASH';
	for my $field (sort keys %$dashboard)
	{
		my $type = $dashboard_fields{$field};

		push @problems, $type ? type_problem($dashboard->{$field}, $type, $field) : "field $field is unknown";
	}
	push @problems, map { "$_ is missing" } grep { !exists $dashboard->{$_} } sort keys %dashboard_fields;
	return @problems if @problems;
	push @problems, 'schemaVersion is below 36' if $dashboard->{schemaVersion} < 36;
	push @problems, 'uid has not 1 to 40 plain letters' if $dashboard->{uid} !~ /^[\w-]{1,40}$/a;

	# Variables
	for my $variable (@{ $dashboard->{templating}{list} })
	{
		my $where = "variable $variable->{name}";

		push @problems, "$where: there twice" if $defined{ $variable->{name} }++;
		push @problems, type_problem($variable,
			{ type => [qw(query datasource)], name => 'string', label => 'string', hide => [ 0, 1, 2 ], skipUrlSync => 'bool', refresh => [ 0, 1, 2 ], multi => 'bool', includeAll => 'bool' }, $where);
		if ($variable->{type} eq 'datasource')
		{
			push @problems, "$where: not of Prometheus" if $variable->{query} ne 'prometheus';
		}
		else
		{
			push @problems, datasource_problem($variable->{datasource}, $where);
			push @problems, type_problem($variable->{query}, { query => 'string', refId => 'string' }, "$where: query");
			push @problems, "$where: no label_values()" unless ($variable->{query}{query} // '') =~ /^label_values\((.*), *(\w+)\)$/s;
			push @problems, "$where: definition is another query" if $variable->{definition} ne $variable->{query}{query};
		}
	}
	my %used = map { $_ => 1 } $text =~ /\$\{?([a-z_]\w*)\}?/gi;
	push @problems, map { "variable $_ is not defined" } grep { !$defined{$_} && !$built_in{$_} } sort keys %used;
	push @problems, map { "variable $_ is not used" } grep { !$used{$_} } sort keys %defined;

	# Annotations
	for my $annotation (@{ $dashboard->{annotations}{list} })
	{
		my $where = "annotation $annotation->{name}";

		push @problems, type_problem($annotation, { name => 'string', datasource => 'object', enable => 'bool', hide => 'bool', iconColor => 'string' }, $where);
		next if $annotation->{builtIn};
		push @problems, datasource_problem($annotation->{datasource}, $where);
		push @problems, type_problem($annotation, { expr => 'string', step => 'string', titleFormat => 'string', textFormat => 'string', tagKeys => 'string' }, $where);
	}

	# Panels
	my $under_row = 0;
	for my $panel (dashboard_panels($dashboard))
	{
		my $where = 'panel ' . ($panel->{id} // '?');

		push @problems, type_problem($panel, { id => 'number', type => [ 'row', sort keys %panel_options ], title => 'string' }, $where);
		push @problems, "$where: the id is there twice" if $ids{ $panel->{id} // '' }++;
		if ($panel->{type} eq 'row')
		{
			push @problems, type_problem($panel, { collapsed => 'bool', panels => 'array' }, $where);
			push @problems, "$where: a row that is not collapsed has no panels of its own" if !$panel->{collapsed} && @{ $panel->{panels} // [] };
			$under_row = 1;
			next;
		}
		push @problems, "$where: is in no row" unless $under_row;
		push @problems, map { "$where: field $_ is unknown" } grep { !$panel_fields{$_} } sort keys %$panel;
		push @problems, "$where: no description" unless ($panel->{description} // '') =~ /\S/;
		push @problems, datasource_problem($panel->{datasource}, $where);
		push @problems, type_problem($panel->{options}, $panel_options{ $panel->{type} } // {}, "$where: options");
		push @problems, field_problems($panel, $where);
		push @problems, target_problems($panel, $where);
	}
	push @problems, grid_problems(@{ $dashboard->{panels} });

	# Expressions
	my @exprs = ((map { $_->{expr} // '' } dashboard_targets($dashboard)), map { $_->{expr} // () } @{ $dashboard->{annotations}{list} });
	push @problems, expression_problems(@exprs);
	if (my $metrics = $params{metrics})
	{
		my %missing = map { $_ => 1 } grep { !$metrics->{$_} } map { used_metrics($_) } @exprs;

		push @problems, map { "metric $_ is not there" } sort keys %missing;

		# the legend names labels that the metrics have
		for my $target (dashboard_targets($dashboard))
		{
			my %labels = map { %{ $metrics->{$_} // {} } } used_metrics($target->{expr} // '');

			push @problems, map { "label $_ of a legend is not there: $target->{expr}" }
			  grep { $_ ne 'instance' && !$labels{$_} } ($target->{legendFormat} // '') =~ /\{\{(\w+)\}\}/g;
		}
	}
	return @problems;
}

1;
