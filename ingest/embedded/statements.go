package embedded

import (
	"fmt"

	"github.com/influxdata/influxdb/coordinator"
	"github.com/influxdata/influxdb/query"
	"github.com/influxdata/influxql"
)

// statements executes InfluxQL, but for what nothing here would serve: accepting those would be a lie.
type statements struct{ *coordinator.StatementExecutor }

// ExecuteStatement sends the results to ctx.
func (s *statements) ExecuteStatement(ctx *query.ExecutionContext, stmt influxql.Statement) error {
	switch stmt.(type) {
	case *influxql.CreateUserStatement, *influxql.DropUserStatement, *influxql.SetPasswordUserStatement,
		*influxql.GrantStatement, *influxql.GrantAdminStatement, *influxql.RevokeStatement, *influxql.RevokeAdminStatement:
		return fmt.Errorf("the embedded store has one token and no users: %s is not supported", stmt)
	case *influxql.CreateSubscriptionStatement, *influxql.CreateContinuousQueryStatement:
		return fmt.Errorf("the embedded store runs no subscriptions and no continuous queries: %s is not supported", stmt)
	}
	return s.StatementExecutor.ExecuteStatement(ctx, stmt)
}
