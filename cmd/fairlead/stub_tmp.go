package main
import "github.com/spf13/cobra"
type exitError struct{code int}
func (e *exitError) Error() string {return ""}
func newDevicesCommand() *cobra.Command { return &cobra.Command{Use:"devices"} }
func newSendCommand() *cobra.Command { return &cobra.Command{Use:"send"} }
func newCommandsCommand() *cobra.Command { return &cobra.Command{Use:"commands"} }
func newTailCommand() *cobra.Command { return &cobra.Command{Use:"tail"} }
func newQueryCommand() *cobra.Command { return &cobra.Command{Use:"query"} }
func newBridgeCommand() *cobra.Command { return &cobra.Command{Use:"bridge"} }
func newOperatorsCommand() *cobra.Command { return &cobra.Command{Use:"operators"} }
func newAuditCommand() *cobra.Command { return &cobra.Command{Use:"audit"} }
