// SPDX-License-Identifier: Apache-2.0
#include "distributed/mpi_library.h"

#include <gmock/gmock.h>

namespace tests::mpi_library_test {
namespace {

using torch_accelerated::detail::compiled_mpi_library;
using torch_accelerated::detail::mpi_library_problem;

TEST(MpiLibrary, OfTheSameKindAndMajorVersionIsNoProblem) {
  EXPECT_EQ(mpi_library_problem("Open MPI 4", "Open MPI v4.1.4, package: Debian OpenMPI"), "");
  EXPECT_EQ(mpi_library_problem("MPICH", "MPICH Version:\t4.0.2"), "");
  EXPECT_EQ(mpi_library_problem("MPICH", "Intel(R) MPI Library 2021.8"), "");
  EXPECT_EQ(mpi_library_problem("", "Another MPI 1.0"), "");
}

TEST(MpiLibrary, OfAnotherKindOrMajorVersionIsNamed) {
  using testing::HasSubstr;
  EXPECT_THAT(mpi_library_problem("Open MPI 4", "Open MPI v5.0.3, package: x"),
              HasSubstr("built with Open MPI 4, but Open MPI 5 is loaded"));
  EXPECT_THAT(mpi_library_problem("Open MPI 4", "MPICH Version:\t4.0.2"), HasSubstr("MPICH"));
  EXPECT_THAT(mpi_library_problem("MPICH", "Open MPI v4.1.4, x"),
              HasSubstr("Open MPI 4 is loaded"));
}

TEST(MpiLibrary, OfAllRanksIsTheSameInTheTests) {
  EXPECT_NO_THROW(torch_accelerated::detail::compare_mpi_libraries(MPI_COMM_WORLD));
}

TEST(MpiLibrary, IsTheOneThatTheTestsWereBuiltWith) {
  EXPECT_FALSE(compiled_mpi_library().empty());
}

}  // namespace
}  // namespace tests::mpi_library_test
