package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/fairlead-hub/fairlead/configs"
)

// newConfigCommand checks and prints the configuration.
func newConfigCommand() *cobra.Command {
	var file string
	var sample bool
	cmd := &cobra.Command{Use: "config", Short: "Check or print the configuration"}
	cmd.PersistentFlags().StringVarP(&file, "config", "c", "", "configuration file")
	check := &cobra.Command{
		Use: "check", Short: "Report every fault of the configuration", Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := configs.Load(file, os.Environ())
			if err != nil {
				return err
			}
			if err := c.Validate(); err != nil {
				return fmt.Errorf("configuration:\n%w", err)
			}
			fmt.Fprintln(cmd.OutOrStdout(), "configuration is good")
			return nil
		},
	}
	show := &cobra.Command{
		Use: "print", Short: "Print the configuration as it is in force, secrets hidden", Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if sample {
				_, err := cmd.OutOrStdout().Write(configs.Sample)
				return err
			}
			c, err := configs.Load(file, os.Environ())
			if err != nil {
				return err
			}
			out, err := configs.Print(c)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(out)
			return err
		},
	}
	show.Flags().BoolVar(&sample, "sample", false, "print the documented sample instead")
	cmd.AddCommand(check, show)
	return cmd
}
