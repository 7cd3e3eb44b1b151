import tseslint from 'typescript-eslint';

export default tseslint.config(
  {
    ignores: [
      'gen/',
      'build/',
      '.tools/',
      'node_modules/',
      '.neon/',
      'coverage/',
      'eslint.config.js',
      'deploy/**/*.js',
    ],
  },
  ...tseslint.configs.recommendedTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-misused-promises': ['error', { checksVoidReturn: { arguments: false } }],
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
      '@typescript-eslint/require-await': 'off',
      '@typescript-eslint/prefer-promise-reject-errors': 'off',
      '@typescript-eslint/only-throw-error': 'off',
      // Generated clients' methods are passed to callUnary together with their client.
      '@typescript-eslint/unbound-method': 'off',
      eqeqeq: 'error',
    },
  },
);
