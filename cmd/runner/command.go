package runner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ssdc-go/ssdc/backends/cpu/isa"
)

// Exit codes: 0 success, 1 the command failed, 2 the command line is wrong.
const (
	exitFailed = 1
	exitUsage  = 2
)

// usageError marks a mistake in the command line itself.
type usageError struct{ error }

// Usagef makes the error for a wrong command line; the program exits with 2 and
// points at --help.
func Usagef(format string, a ...any) error { return usageError{fmt.Errorf(format, a...)} }

// NewRoot makes the root of a command tree that Execute runs.
func NewRoot(name, short, long string) *cobra.Command {
	root := &cobra.Command{
		Use: name, Short: short, Long: long,
		SilenceErrors: true, SilenceUsage: true,
		Args: cobra.ArbitraryArgs, // so that RunE can say which command was meant
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return noCommand(cmd, args[0])
		},
	}
	root.SuggestionsMinimumDistance = 2
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetHelpCommand(&cobra.Command{
		Use: "help [COMMAND]", Short: "show the help of a command",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, _, err := cmd.Root().Find(args)
			if err != nil || len(args) > 0 && c == cmd.Root() {
				return Usagef("there is no command %q", strings.Join(args, " "))
			}
			return c.Help()
		},
	})
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	return root
}

// noCommand is the error for a name that is no command of root.
func noCommand(root *cobra.Command, name string) error {
	meant := ""
	if s := root.SuggestionsFor(name); len(s) > 0 {
		meant = fmt.Sprintf(" (did you mean %q?)", s[0])
	}
	return Usagef("there is no command %q%s", name, meant)
}

// One is the argument rule of a command that takes one thing.
func One(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			article := "a"
			if strings.ContainsRune("AEIOU", rune(what[0])) {
				article = "an"
			}
			return Usagef("%s needs %s %s", cmd.Name(), article, what)
		case len(args) > 1:
			return Usagef("%s takes one %s, not %d: %s", cmd.Name(), what, len(args), strings.Join(args, " "))
		}
		return nil
	}
}

// AtMostOne is the argument rule of a command that may take one thing.
func AtMostOne(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return One(what)(cmd, args)
		}
		return nil
	}
}

// None is the argument rule of a command without arguments.
func None(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return Usagef("%s takes no arguments, not %q", cmd.Name(), args[0])
	}
	return nil
}

// Execute runs a command tree, prints its error and returns the exit code.
func Execute(ctx context.Context, root *cobra.Command) int {
	if err := isa.EnvError(); err != nil { // rather than run on kernels that were not asked for
		fmt.Fprintf(root.ErrOrStderr(), "%s: %v\n", root.Name(), err)
		return exitUsage
	}
	// Of a name that is no command there is no help, and the command after --help is meant; cobra shows the root's for both.
	var unknown error
	help := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		if name := cmd.Flags().Arg(0); cmd == root && name != "" {
			named, _, err := root.Find([]string{name})
			if err != nil || named == root {
				unknown = noCommand(root, name)
				return
			}
			cmd = named
		}
		help(cmd, args)
	})
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		err = unknown
	}
	if err == nil {
		return 0
	}
	fmt.Fprintf(root.ErrOrStderr(), "%s: %s\n", root.Name(), message(err))
	if errors.As(err, new(usageError)) {
		fmt.Fprintf(root.ErrOrStderr(), "see %s --help\n", cmd.CommandPath())
		return exitUsage
	}
	return exitFailed
}

// message words an error. The operating system's own say which call failed;
// the file and the reason are what matters.
func message(err error) string {
	if errors.Is(err, context.Canceled) {
		return "interrupted"
	}
	p, bare := err.(*fs.PathError)
	if !bare {
		return err.Error()
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Sprintf("%s: no such file or directory", p.Path)
	}
	return fmt.Sprintf("cannot open %s: %v", p.Path, p.Err)
}

// CheckFile says why path cannot be read, before anything takes it for a model.
func CheckFile(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return fmt.Errorf("%s is a folder; name the file in it", path)
	}
	return nil
}
