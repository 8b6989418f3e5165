"""A submission that ends before it listens: a module that is not installed here."""

import a_module_that_only_the_student_has

a_module_that_only_the_student_has.serve()
