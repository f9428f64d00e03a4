package jobs

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	made     prometheus.Counter
	ended    *prometheus.CounterVec
	commands prometheus.Counter
	refused  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, active func() float64) *metrics {
	name := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "fairlead", Subsystem: "jobs", Name: name, Help: help}
	}
	m := &metrics{
		made:     prometheus.NewCounter(prometheus.CounterOpts(name("created_total", "Jobs made on this node."))),
		commands: prometheus.NewCounter(prometheus.CounterOpts(name("commands_total", "Commands that jobs driven by this node asked for."))),
		refused:  prometheus.NewCounter(prometheus.CounterOpts(name("refused_total", "Devices of jobs driven by this node for which no command was made."))),
		ended:    prometheus.NewCounterVec(prometheus.CounterOpts(name("ended_total", "Jobs driven by this node that ended, by state.")), []string{"state"}),
	}
	for _, s := range []State{Completed, Cancelled, Aborted} {
		m.ended.WithLabelValues(string(s))
	}
	reg.MustRegister(m.made, m.commands, m.refused, m.ended,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts(name("active", "Jobs that have not ended.")), active))
	return m
}
